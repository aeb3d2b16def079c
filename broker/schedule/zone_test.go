package schedule_test

import (
	"archive/zip"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

var update = flag.Bool("update", false, "write the list of time zones anew, from Go's own")

func TestZones(t *testing.T) {
	if *update {
		root, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			t.Fatal(err)
		}
		archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range archive.File {
			if !strings.HasSuffix(f.Name, "/") && f.Name != "Factory" {
				names = append(names, f.Name+"\n")
			}
		}
		if err := archive.Close(); err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		if err := os.WriteFile("zones.txt", []byte(strings.Join(names, "")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	zones := schedule.Zones()
	if len(zones) < 500 || !slices.IsSorted(zones) {
		t.Errorf("%d zones, sorted: %t", len(zones), slices.IsSorted(zones))
	}
	for _, name := range zones {
		if _, err := time.LoadLocation(name); err != nil {
			t.Errorf("zone %s is listed, and can't be loaded: %v", name, err)
		}
	}
}
