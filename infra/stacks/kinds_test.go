package stacks_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/infra/stacks"
	"github.com/sitevault/sitevault/statemachine"
)

// flow is what this test reads of a machine, or of a Map in it.
type flow struct {
	States map[string]struct {
		Retry, Catch  []struct{ ErrorEquals []string }
		ItemProcessor *flow
	}
}

// namedByStates are the errors that each state names in Retry and Catch, or that a Map around it names in its Catch. Those
// of the platform, which all have a dot, are left out.
func namedByStates(t *testing.T) map[string]map[string]bool {
	t.Helper()
	var file flow
	if err := json.Unmarshal(statemachine.Backup, &file); err != nil {
		t.Fatal(err)
	}
	named := map[string]map[string]bool{}
	var add func(f flow, around map[string]bool)
	add = func(f flow, around map[string]bool) {
		for name, state := range f.States {
			own := maps.Clone(around)
			for _, rule := range slices.Concat(state.Retry, state.Catch) {
				for _, e := range rule.ErrorEquals {
					own[e] = !strings.Contains(e, ".")
				}
			}
			maps.DeleteFunc(own, func(_ string, kind bool) bool { return !kind })
			named[name] = own
			if state.ItemProcessor != nil {
				add(*state.ItemProcessor, own)
			}
		}
	}
	add(file, map[string]bool{})
	return named
}

// The errors that the state machine names are exactly those that the code of its functions can make: for each task, what
// it can make is named by its state or the Map around it. Only FinishJob lets some pass: they end the execution, and the
// end of an execution ends the job.
func TestErrorNamesFollowTheCode(t *testing.T) {
	named, made := namedByStates(t), map[string]bool{}
	for _, f := range stacks.Functions(everything(t)) {
		if f.State == "" {
			continue
		}
		kinds := findings(t, f).kinds
		maps.Copy(made, kinds)
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			if !named[f.State][kind] && f.State != "FinishJob" {
				t.Errorf("%s can make %s, and its state does not name it", f.State, kind)
			}
		}
	}
	all := map[string]bool{}
	for _, kinds := range named {
		maps.Copy(all, kinds)
	}
	if want, got := slices.Sorted(maps.Keys(made)), slices.Sorted(maps.Keys(all)); !slices.Equal(want, got) {
		t.Errorf("the code makes %v,\nthe state machine names %v", want, got)
	}
}
