package statemachine_test

import (
	"encoding/json"
	"sync"
)

// turns puts the calls of an execution in one order: file after file, batch after batch. Otherwise the rows that a call
// reads would be a little longer or shorter each time.
type turns struct {
	files []string // in their order

	mu     sync.Mutex
	moved  *sync.Cond
	at     int            // place of the file whose turn it is
	done   map[string]int // last part of each file's last batch
	failed bool           // nobody waits any more
}

func newTurns(files []string) *turns {
	t := &turns{files: files, done: map[string]int{}}
	t.moved = sync.NewCond(&t.mu)
	return t
}

// call is what an input tells of its place in the order.
type call struct {
	File        string
	First, Last int
}

// take runs handle when it is the call's turn.
func (t *turns) take(state string, input json.RawMessage, handle func() (json.RawMessage, error)) (json.RawMessage, error) {
	var c call
	if err := json.Unmarshal(input, &c); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.failed && !t.isNext(c) {
		t.moved.Wait()
	}
	out, err := handle()
	t.failed = t.failed || err != nil
	if state == "ExportRangeUpload" {
		t.done[c.File] = c.Last
	}
	if state == "InspectArchive" {
		t.at++
	}
	t.moved.Broadcast()
	return out, err
}

func (t *turns) isNext(c call) bool {
	ofFile := c.File == "" || t.files[t.at] == c.File
	return ofFile && (c.First == 0 || c.First == t.done[c.File]+1)
}
