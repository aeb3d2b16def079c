package v1

// PoolStatus is how a pool does: what may not stand in [Pool].
type PoolStatus struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Arch        string `json:"arch,omitempty"` // that its nodes say they have
	FillLevel   int    `json:"fill_level"`     // that holds now
	Levels      Levels `json:"levels"`

	*PoolOperator
}

// PoolOperator are the fields of a pool's status that only admins see.
type PoolOperator struct {
	MaxNodes   int     `json:"max_nodes"` // that holds now
	Window     string  `json:"window"`    // of its schedule, that is open; "" for none
	Base       Numbers `json:"base"`      // what holds while none is
	Generation string  `json:"generation"`

	Failed      int  `json:"failed"`       // nodes that are to be destroyed after a failure
	Held        int  `json:"held"`         // nodes that are kept for a person
	Stale       int  `json:"stale"`        // nodes in stock, or on their way there, of an older generation
	Expired     int  `json:"expired"`      // nodes in stock that are too old to be lent
	Creates     int  `json:"creates"`      // Terraform runs that make nodes
	Destroys    int  `json:"destroys"`     // and that destroy them
	Unmet       int  `json:"unmet"`        // nodes that requests wait for
	OldestReady Time `json:"oldest_ready"` // when the oldest node that can be lent was begun; null without one
	MaxAge      int  `json:"max_age"`      // seconds until a node is too old to be lent; 0 for never

	Rollout      string `json:"rollout"`       // its state, as in /rollouts
	Failures     int    `json:"failures"`      // creates that failed since the last that succeeded
	Failure      string `json:"failure"`       // the last of them
	FailureClass string `json:"failure_class"` // of which kind it was
	LastFailure  Time   `json:"last_failure"`
	NextTry      Time   `json:"next_try"` // until then the pool makes no node; null if it does

	Changes []ScheduleChange `json:"changes"`         // the next five of its schedule
	Hosts   *PoolHosts       `json:"hosts,omitempty"` // that it draws from, if from any

	Variants []VariantStatus `json:"variants,omitempty"` // in the order in which they are tried; left out where there are none
	Followed []FollowedValue `json:"followed,omitempty"` // what it follows of its module; left out where nothing is known
}

// PoolHosts counts the hosts that a pool draws from, which others may share.
type PoolHosts struct {
	Free        int `json:"free"`
	InUse       int `json:"in_use"`
	Quarantined int `json:"quarantined"` // that failed, and are tried again
	Broken      int `json:"broken"`      // that failed, and wait for an admin
}

// FollowedValue is an output of a pool's module that the pool follows.
type FollowedValue struct {
	Variant string `json:"variant"` // that sees it; "" for a pool without variants
	Output  string `json:"output"`
	Value   any    `json:"value"`
	At      Time   `json:"at"`  // when it was looked up last
	New     bool   `json:"new"` // it is another one than at first
}

// VariantStatus is how a variant of a pool does.
type VariantStatus struct {
	Name       string `json:"name"`
	Ready      int    `json:"ready"`       // nodes of it that can be lent
	Nodes      int    `json:"nodes"`       // in any state but gone
	CoolsUntil Time   `json:"cools_until"` // until then no node is made from it; null if one may be

	// The last time that it had no capacity; "" and null if it has.
	Failure      string `json:"failure"`
	FailureClass string `json:"failure_class"` // no_capacity or quota
	LastFailure  Time   `json:"last_failure"`
}

// Numbers are how many nodes a pool keeps.
type Numbers struct {
	FillLevel int `json:"fill_level"`
	MaxNodes  int `json:"max_nodes"`
}

// ScheduleChange is a time from which on a pool keeps other numbers of nodes.
type ScheduleChange struct {
	At Time `json:"at"`
	Numbers
	Window string `json:"window"` // that is open then; "" for none
}

// PoolStatusAnswer is the answer about the status of one pool.
type PoolStatusAnswer struct {
	Action     Action     `json:"action"`
	PoolStatus PoolStatus `json:"pool_status"`
}
