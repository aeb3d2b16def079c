package v1

// Rollout says how far the replacement of a pool's stale nodes is.
type Rollout struct {
	Pool       string `json:"pool"`
	Generation string `json:"generation"` // that it leads to
	State      string `json:"state"`      // "none", "running", "paused", "aborted" or "done"
	Now        bool   `json:"now"`        // as fast as the pool's maximum allows
	Reason     string `json:"reason"`     // of a pause or an abort
	StartedAt  Time   `json:"started_at"` // null if it has not begun
	ChangedAt  Time   `json:"changed_at"` // when it came into its state
	Stale      int    `json:"stale"`      // nodes that it had to replace
	Left       int    `json:"left"`       // of them, those that are still there
	Lent       int    `json:"lent"`       // stale nodes that are lent, and left alone
	FillLevel  int    `json:"fill_level"` // of the pool
	Ready      int    `json:"ready"`      // nodes in stock
	ReadyNew   int    `json:"ready_new"`  // of them, those of the new generation
	Making     int    `json:"making"`     // nodes of the new generation on their way
	Failures   int    `json:"failures"`   // creates that failed since the last that succeeded
	Failure    string `json:"failure"`    // the last of them
}

// RolloutOrder is the body of POST /rollouts/POOL.
type RolloutOrder struct {
	Order  string `json:"order"`  // "pause", "resume", "now" or "abort"
	Reason string `json:"reason"` // for others to read; may be left out
}

// RolloutAnswer is the answer about one pool's rollout.
type RolloutAnswer struct {
	Action  Action  `json:"action"`
	Rollout Rollout `json:"rollout"`
}

// RolloutsAnswer is the answer about those of all pools.
type RolloutsAnswer struct {
	Action   Action    `json:"action"`
	Rollouts []Rollout `json:"rollouts"`
}
