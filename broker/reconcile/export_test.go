package reconcile

// VerifyAlways makes the loop compare its copy of the store in every pass. It goes
// on with the copy as long as there is no difference.
func (l *Loop) VerifyAlways() { l.verifyEvery = 0 }
