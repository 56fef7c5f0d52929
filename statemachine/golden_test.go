package statemachine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
)

var update = flag.Bool("update", false, "write the payloads to testdata instead of comparing them")

// payload is one call of a task as the platform sees it.
type payload struct {
	Scenario string          `json:"scenario"`
	Input    json.RawMessage `json:"input"`
	Output   json.RawMessage `json:"output,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// Each task's payloads in three backups - one that gets done, one that waits for its provider and begins an upload
// anew, one that fails - are those in testdata. They are what functions of the last version and of the next one say to
// each other while a deployment is under way.
func TestPayloads(t *testing.T) {
	seen := map[string][]payload{}
	for _, scenario := range []struct {
		name    string
		prepare func(f *flow)
		want    asl.Status
	}{
		{"done", func(f *flow) { f.create("files", "database") }, asl.Succeeded},
		{"waits and begins anew", func(f *flow) {
			f.create("files")
			f.exports.onPin = []error{&backup.Error{Kind: backup.ProviderPreparing, RetryAfter: 5 * time.Second, Err: errors.New("not ready yet")}}
			f.storage.Intercept = func(c backuptest.StorageCall) error {
				if c.Op == "UploadPart" && c.N == 1 && !c.After {
					return backup.E(backup.UploadLost, "no such upload")
				}
				return nil
			}
		}, asl.Succeeded},
		{"fails", func(f *flow) {
			f.create("files")
			f.exports.onPin = []error{backup.E(backup.ProviderNotFound, "HEAD https://example.org/files: 404")}
		}, asl.Failed},
	} {
		f := newFlow(t)
		scenario.prepare(f)
		handlers := f.handlers()
		for state, handle := range handlers {
			handlers[state] = func(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
				out, err := handle(ctx, input)
				p := payload{Scenario: scenario.name, Input: input, Output: out}
				if failure, ok := errors.AsType[*asl.Error](err); ok {
					p.Error = failure.Name
				}
				seen[state] = append(seen[state], p)
				return out, err
			}
		}
		if result := run(t, handlers); result.Status != scenario.want {
			t.Fatalf("%s: %s %s %s", scenario.name, result.Status, result.Error, result.Cause)
		}
	}
	for _, state := range []string{"StartJob", "OpenUpload", "ExportRangeUpload", "CompleteMultipart", "InspectArchive", "FailFile", "FinishJob"} {
		compareGolden(t, state, seen[state])
	}
}

func compareGolden(t *testing.T, state string, payloads []payload) {
	t.Helper()
	if len(payloads) == 0 {
		t.Errorf("%s was never called", state)
	}
	got, err := json.MarshalIndent(payloads, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", state+".json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the payloads differ from %s; if that is meant, run go test ./statemachine -update\n%s", state, path, got)
	}
}
