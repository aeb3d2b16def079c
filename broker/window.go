package broker

import "time"

// Window is a time that comes again and again, in which a pool keeps other
// numbers of nodes than it does else. Package schedule knows when it is open.
type Window struct {
	Name string `json:"name"`
	// Cron says when it opens: minute, hour, day of month, month and day of week,
	// on the clocks of Timezone.
	Cron string `json:"cron"`
	// Duration is for how long it stays open, on the same clocks.
	Duration time.Duration `json:"duration"`
	Timezone string        `json:"timezone"` // IANA name, such as "Europe/Prague"
	// FillLevel and MaxNodes hold while it is open.
	FillLevel int `json:"fill_level"`
	MaxNodes  int `json:"max_nodes"`
}

// Effective is how many nodes a pool keeps at a time.
type Effective struct {
	FillLevel int
	MaxNodes  int
	Window    string // whose numbers these are; "" for the pool's own
}

// ScheduleChange is a time from which on other numbers hold.
type ScheduleChange struct {
	At time.Time
	Effective
}
