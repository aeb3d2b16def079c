// Package schedule tells how many nodes a pool keeps at a time: what the pool
// says, or one of its windows ([broker.Window]) while that is open. It is pure:
// the time is an argument.
//
// # When a window is open
//
// A window opens when the clocks of its zone show a time that fits its cron
// expression, and closes when they show a time that is its duration later. So
// "0 20 * * *" for 12 hours ends at 8:00 all year round, whatever happens to the
// clocks at night. Where it opens again before it closes, it stays open.
//
// Clocks that are set back show some times twice: a window opens the first time,
// and closes the second. Clocks that are set forward skip some: a window opens or
// closes at the moment of the change then, and one that opens so is measured from
// what the clocks show after it. So each window opens on such days too.
//
// Of windows that are open at once the last one counts, so that exceptions stand
// behind the rule. Where none is open, the pool's own numbers hold.
//
// # Cron expressions
//
// They have the five fields of crontab(5), read by robfig/cron, whose traps are
// kept away from: it is asked about a calendar without changes of the clocks, so
// that it never jumps over a day on which they change; a zone in the expression,
// which can end the program, is refused; and so is a date that never comes.
package schedule
