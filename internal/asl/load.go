package asl

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode/utf8"
)

// Machine is a loaded state machine. It is immutable and runs any number of executions at once.
type Machine struct {
	flow    *flow
	timeout time.Duration // 0: none
}

// flow is a machine or the ItemProcessor of a Map: states and where they begin.
type flow struct {
	start *state
}

// state holds what all types share; behavior is the rest.
type state struct {
	name                  string
	kind                  string // the Type, as history events spell it
	entered, exited       string // event types
	inputPath, outputPath *path
	behavior              behavior
	next                  *state   // nil ends the flow
	targets               []*state // every state that may follow
	terminal              bool
}

// Load compiles file and binds each Task's Resource "${Name}" to handlers[Name]. It refuses with an error that names
// state and field whatever the package documentation does not list, and graphs with unknown, unreachable or endless
// states.
func Load(file []byte, handlers map[string]Handler) (*Machine, error) {
	if len(file) > maxDefinitionBytes {
		return nil, fmt.Errorf("asl: definition of %d bytes exceeds the limit of %d bytes", len(file), maxDefinitionBytes)
	}
	doc, err := compact(file)
	if err != nil {
		return nil, fmt.Errorf("asl: definition: %w", err)
	}
	l := &loading{handlers: handlers, names: map[string]bool{}}
	m := l.machine(doc)
	if l.err != nil {
		return nil, l.err
	}
	return m, nil
}

// loading is the state of one Load.
type loading struct {
	handlers map[string]Handler
	names    map[string]bool // of all states so far: a name is unique in the whole machine, Maps included
	mapDepth int             // how many Maps surround what is being read
	err      error
}

// refuse keeps the first reason against the file.
func (l *loading) refuse(state, field, format string, args ...any) {
	if l.err != nil {
		return
	}
	where := "asl: "
	if state != "" {
		where += fmt.Sprintf("state %q: ", state)
	}
	if field != "" {
		where += fmt.Sprintf("field %q: ", field)
	}
	l.err = errors.New(where + fmt.Sprintf(format, args...))
}

// accept vets a path by where it stands.
func (l *loading) accept(p *path) error {
	if p.needsMapItem() && l.mapDepth == 0 {
		return fmt.Errorf("%s exists only inside a Map", p.text)
	}
	return nil
}

func (l *loading) machine(doc json.RawMessage) *Machine {
	f := newFields(l, "", "", doc)
	f.text("Comment")
	f.only("Version", "1.0")
	f.only("QueryLanguage", "JSONPath")
	timeout := f.whole("TimeoutSeconds", 1, maxSeconds, 0)
	m := &Machine{timeout: time.Duration(timeout) * time.Second}
	m.flow = l.flow(f)
	f.end()
	return m
}

// flow reads StartAt and States and checks their graph.
func (l *loading) flow(f *fields) *flow {
	start := f.requiredText("StartAt")
	g := &graph{load: l, states: map[string]*state{}}
	definitions := f.object("States")
	for _, name := range definitions.names {
		g.declare(f, name)
	}
	for _, name := range definitions.names {
		doc, _ := definitions.take(name)
		g.define(name, doc)
	}
	if g.states[start] == nil {
		f.refuse("StartAt", "there is no state %q", start)
	}
	if l.err == nil {
		g.check(f, start)
	}
	return &flow{start: g.states[start]}
}

// graph is the states of one flow while they are being read.
type graph struct {
	load   *loading
	states map[string]*state
	order  []*state
}

func (g *graph) declare(f *fields, name string) {
	if g.load.names[name] {
		f.load.refuse(name, "", "the name occurs twice in the machine")
	}
	if name == "" || utf8.RuneCountInString(name) > maxStateNameRunes {
		f.refuse("States", "state name %q must have 1 to %d characters", name, maxStateNameRunes)
	}
	g.load.names[name] = true
	s := &state{name: name}
	g.states[name] = s
	g.order = append(g.order, s)
}

// define fills a declared state.
func (g *graph) define(name string, doc json.RawMessage) {
	f := newFields(g.load, name, "", doc)
	s := g.states[name]
	s.kind = f.requiredText("Type")
	s.entered, s.exited = s.kind+eventStateEntered, s.kind+eventStateExited
	f.text("Comment")
	r := stateReader{fields: f, graph: g, state: s}
	switch s.kind {
	case kindTask:
		r.task()
	case kindMap:
		r.mapState()
	case kindChoice:
		r.choice()
	case kindPass:
		r.pass()
	case kindWait:
		r.wait()
	case kindSucceed:
		r.succeed()
	case kindFail:
		r.fail()
	default:
		f.refuse("Type", "value %q is not supported", s.kind)
	}
	f.end()
}

// check wants every state reachable from start and a state that ends the flow among them.
func (g *graph) check(f *fields, start string) {
	reached := map[*state]bool{g.states[start]: true}
	ends := false
	for queue := []*state{g.states[start]}; len(queue) > 0; queue = queue[1:] {
		ends = ends || queue[0].terminal
		for _, target := range queue[0].targets {
			if !reached[target] {
				reached[target] = true
				queue = append(queue, target)
			}
		}
	}
	for _, s := range g.order {
		if !reached[s] {
			g.load.refuse(s.name, "", "no state leads to it")
		}
	}
	if !ends {
		f.refuse("States", "no state ends the flow")
	}
}

// stateReader reads the fields of one state.
type stateReader struct {
	*fields
	graph *graph
	state *state
}

// target resolves the name of a following state.
func (r stateReader) target(f *fields, name string) *state {
	to := r.graph.states[f.requiredText(name)]
	if to == nil {
		f.refuse(name, "names no state of the same flow")
		return nil
	}
	r.state.targets = append(r.state.targets, to)
	return to
}

// transition reads Next or End.
func (r stateReader) transition() {
	r.exactlyOne("Next", "End")
	if r.has("Next") {
		r.state.next = r.target(r.fields, "Next")
		return
	}
	if r.state.terminal = r.flag("End"); !r.state.terminal {
		r.refuse("End", "must be true")
	}
}

func (r stateReader) inputOutput() {
	r.state.inputPath = r.pathOrNull("InputPath")
	r.state.outputPath = r.pathOrNull("OutputPath")
}

func (r stateReader) pass() {
	r.inputOutput()
	r.transition()
	r.atMostOne("Result", "Parameters")
	result, _ := r.take("Result")
	r.state.behavior = &pass{result: result, parameters: r.template("Parameters"), resultPath: r.resultPath()}
}

func (r stateReader) succeed() {
	r.inputOutput()
	r.state.terminal = true
	r.state.behavior = succeed{}
}

func (r stateReader) fail() {
	r.atMostOne("Error", "ErrorPath")
	r.atMostOne("Cause", "CausePath")
	r.state.terminal = true
	r.state.behavior = &fail{
		err:       Error{Name: r.text("Error"), Cause: r.text("Cause")},
		errorPath: r.path("ErrorPath"), causePath: r.path("CausePath"),
	}
}

func (r stateReader) wait() {
	r.inputOutput()
	r.transition()
	r.exactlyOne("Seconds", "SecondsPath", "Timestamp", "TimestampPath")
	w := &wait{
		duration:      time.Duration(r.whole("Seconds", 0, maxSeconds, 0)) * time.Second,
		secondsPath:   r.path("SecondsPath"),
		timestampPath: r.path("TimestampPath"),
	}
	if r.has("Timestamp") {
		w.until = r.timestamp("Timestamp")
	}
	r.state.behavior = w
}

func (r stateReader) timestamp(name string) time.Time {
	at, err := parseTimestamp(r.text(name))
	if err != nil {
		r.refuse(name, "%s", err)
	}
	return at
}

// placeholder is the form in which a deployable file names a function whose ARN is not known yet.
var placeholder = regexp.MustCompile(`^\$\{([A-Za-z0-9_]+)\}$`)

func (r stateReader) task() {
	r.inputOutput()
	r.transition()
	r.atMostOne("TimeoutSeconds", "TimeoutSecondsPath")
	r.state.behavior = &guarded{
		recovery: r.recovery(),
		attempt: &task{
			handler:     r.handler(),
			parameters:  r.template("Parameters"),
			timeout:     time.Duration(r.whole("TimeoutSeconds", 1, maxSeconds, 0)) * time.Second,
			timeoutPath: r.path("TimeoutSecondsPath"),
		},
	}
}

func (r stateReader) handler() Handler {
	resource := r.requiredText("Resource")
	name := placeholder.FindStringSubmatch(resource)
	if name == nil {
		r.refuse("Resource", "%q is not a placeholder such as ${Name}", resource)
		return nil
	}
	handler := r.load.handlers[name[1]]
	if handler == nil {
		r.refuse("Resource", "no handler is registered as %q", name[1])
	}
	return handler
}

func (r stateReader) mapState() {
	r.inputOutput()
	r.transition()
	r.atMostOne("MaxConcurrency", "MaxConcurrencyPath")
	m := &mapState{
		itemsPath:       r.path("ItemsPath"),
		concurrency:     r.whole("MaxConcurrency", 0, maxSeconds, 0),
		concurrencyPath: r.path("MaxConcurrencyPath"),
	}
	r.state.behavior = &guarded{recovery: r.recovery(), attempt: m}
	r.load.mapDepth++
	m.selector = r.template("ItemSelector")
	m.flow = r.processor()
	r.load.mapDepth--
}

func (r stateReader) processor() *flow {
	f := r.object("ItemProcessor")
	if f.has("ProcessorConfig") {
		config := f.object("ProcessorConfig")
		config.only("Mode", "INLINE")
		config.end()
	}
	f.text("Comment")
	processor := r.load.flow(f)
	f.end()
	return processor
}

// recovery reads what Task and Map share: what becomes of a result, and of a failure.
func (r stateReader) recovery() recovery {
	c := recovery{selector: r.template("ResultSelector"), resultPath: r.resultPath()}
	retry, catch := r.objects("Retry"), r.objects("Catch")
	for i, f := range retry {
		c.retry = append(c.retry, readRetrier(f, i == len(retry)-1))
	}
	for i, f := range catch {
		f.text("Comment")
		c.catch = append(c.catch, catcher{
			errorEquals: readErrorEquals(f, i == len(catch)-1), next: r.target(f, "Next"), resultPath: f.resultPath(),
		})
		f.end()
	}
	return c
}

func readRetrier(f *fields, last bool) retrier {
	f.text("Comment")
	r := retrier{
		errorEquals: readErrorEquals(f, last),
		interval:    float64(f.whole("IntervalSeconds", 1, maxSeconds, defaultIntervalSeconds)),
		attempts:    f.whole("MaxAttempts", 0, maxAttempts, defaultMaxAttempts),
		backoffRate: f.number("BackoffRate", 1, defaultBackoffRate),
		maxDelay:    float64(f.whole("MaxDelaySeconds", 1, maxDelaySeconds-1, maxSeconds)),
		fullJitter:  f.only("JitterStrategy", "NONE", "FULL") == "FULL",
	}
	if r.maxDelay <= r.interval && r.maxDelay < maxSeconds {
		f.refuse("MaxDelaySeconds", "must be greater than IntervalSeconds")
	}
	f.end()
	return r
}

// readErrorEquals reads the names that a retrier or catcher matches.
func readErrorEquals(f *fields, last bool) []string {
	const field = "ErrorEquals"
	names := f.texts(field)
	for _, name := range names {
		switch {
		case name == wildcardAll && (len(names) > 1 || !last):
			f.refuse(field, "%s must stand alone, in the last entry", wildcardAll)
		case len(name) >= len(reservedPrefix) && name[:len(reservedPrefix)] == reservedPrefix && !reservedErrors[name]:
			f.refuse(field, "%q is not an error name of the language", name)
		}
	}
	return names
}
