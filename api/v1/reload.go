package v1

// Reload says how the last reading of the pools went, and which pools run.
type Reload struct {
	At       Time   `json:"at"`
	By       string `json:"by"`       // who or what asked for it
	Problem  string `json:"problem"`  // why the pools are left as they were; "" if they are the new ones
	Since    Time   `json:"since"`    // when those that run were read
	Pools    int    `json:"pools"`    // how many run
	Source   string `json:"source"`   // file, directory or repository
	Revision string `json:"revision"` // commit, where they are from a repository
}

// ReloadOrder is the body of POST /reload. It may be left out.
type ReloadOrder struct {
	Confirm string `json:"confirm"` // the id of the plan that it is to be
}

// ReloadAnswer is the answer about a reading of the pools.
type ReloadAnswer struct {
	Action Action `json:"action"`
	Reload Reload `json:"reload"`
}
