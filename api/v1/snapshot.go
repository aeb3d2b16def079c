package v1

import "encoding/json"

// SnapshotAnswer answers GET /snapshot.
type SnapshotAnswer struct {
	Action Action `json:"action"`
	// Snapshot is for `duffy-broker plan`. It has a version of its own, in its
	// format_version.
	Snapshot json.RawMessage `json:"snapshot"`
}
