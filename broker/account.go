package broker

// Account is an account with a provider whose API takes only so many requests at
// a time. The pools that name it share its rate of Terraform runs.
type Account struct {
	Name string `json:"name"`
	// Rate is how many Terraform runs, creates and destroys together, may start
	// a second in the long run. It is above zero.
	Rate float64 `json:"rate"`
	// Burst is how many may start at once after a quiet time; at least one.
	Burst int `json:"burst"`
	// DestroyShare is the part of Rate that destroys get while creates wait too;
	// creates get the rest. It lies between 0 and 1, and is neither.
	DestroyShare float64 `json:"destroy_share"`
}
