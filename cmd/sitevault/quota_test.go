package main

import (
	"regexp"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

var flagName = regexp.MustCompile(`--([a-z-]+)`)

// Whoever meets a quota is told of flags that exist.
func TestQuotasNameTheirFlags(t *testing.T) {
	serve := newProgram().serveCommand()
	used := backup.Usage{Sites: 1, ActiveJobs: 1, Ranges: 1, StoredBytes: 1, FetchedBytes: 1}
	named := 0
	for _, q := range []backup.Quotas{{Sites: 1}, {ActiveJobs: 1}, {Ranges: 1}, {StoredBytes: 1}, {FetchedBytes: 1}} {
		refusal := q.Refuse(used, used, time.Now())
		if refusal == nil {
			t.Fatalf("%+v admits what is beyond", q)
		}
		for _, m := range flagName.FindAllStringSubmatch(refusal.Error(), -1) {
			named++
			if serve.Flags().Lookup(m[1]) == nil {
				t.Errorf("%q: there is no such flag", refusal)
			}
		}
	}
	if named != 4 {
		t.Errorf("%d flags are named", named)
	}
}
