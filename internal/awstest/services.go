package awstest

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Execution is one execution of a state machine of type Standard.
type Execution struct {
	Machine string
	Input   string
	Status  string // RUNNING, or how it ended
	Error   string // given to StopExecution
}

// Executions are all executions by their names.
func (s *Server) Executions() map[string]Execution {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]Execution{}
	for name, e := range s.executions {
		all[name] = *e
	}
	return all
}

// End ends an execution.
func (s *Server) End(name, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.executions[name].Status = status
}

var executionName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

func (s *Server) startExecution(body []byte) answer {
	var in struct{ StateMachineArn, Name, Input string }
	_ = json.Unmarshal(body, &in)
	if !executionName.MatchString(in.Name) {
		return refuse(400, "InvalidName")
	}
	if !json.Valid([]byte(in.Input)) {
		return refuse(400, "InvalidExecutionInput")
	}
	arn := strings.Replace(in.StateMachineArn, ":stateMachine:", ":execution:", 1) + ":" + in.Name
	known := s.executions[in.Name]
	if known != nil && (known.Status != "RUNNING" || known.Input != in.Input) {
		return refuse(400, "ExecutionAlreadyExists")
	}
	if known == nil {
		s.executions[in.Name] = &Execution{Machine: in.StateMachineArn, Input: in.Input, Status: "RUNNING"}
	}
	return succeed(map[string]any{"executionArn": arn, "startDate": 1.7e9})
}

func (s *Server) stopExecution(body []byte) answer {
	var in struct{ ExecutionArn, Error string }
	_ = json.Unmarshal(body, &in)
	arn := strings.Split(in.ExecutionArn, ":")
	if len(arn) != 8 || arn[5] != "execution" {
		return refuse(400, "InvalidArn")
	}
	known := s.executions[arn[7]]
	if known == nil {
		return refuse(400, "ExecutionDoesNotExist")
	}
	if known.Status == "RUNNING" {
		known.Status, known.Error = "ABORTED", in.Error
	}
	return succeed(map[string]any{"stopDate": 1.7e9})
}

// BusEvent is one entry of PutEvents.
type BusEvent struct {
	EventBusName, Source, DetailType, Detail string
	Time                                     float64
}

// Events are the events on all buses in the order of their arrival.
func (s *Server) Events() []BusEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bus)
}

func (s *Server) putEvents(body []byte) answer { return s.putSome(body, 0) }

// putSome leaves out the last entries.
func (s *Server) putSome(body []byte, left int) answer {
	var in struct{ Entries []BusEvent }
	_ = json.Unmarshal(body, &in)
	if len(in.Entries) == 0 || len(in.Entries) > 10 {
		return refuseValue("1 to 10 entries, not %d", len(in.Entries))
	}
	results := make([]map[string]string, len(in.Entries))
	for i, e := range in.Entries {
		if i >= len(in.Entries)-left {
			results[i] = map[string]string{"ErrorCode": "ThrottlingException", "ErrorMessage": "too many"}
			continue
		}
		if !json.Valid([]byte(e.Detail)) || e.DetailType == "" || e.Source == "" {
			results[i] = map[string]string{"ErrorCode": "MalformedDetail", "ErrorMessage": "no"}
			continue
		}
		s.bus = append(s.bus, e)
		results[i] = map[string]string{"EventId": "e"}
	}
	return succeed(map[string]any{"FailedEntryCount": left, "Entries": results})
}

// Schedule is a schedule as it was last put.
type Schedule struct {
	GroupName                  string
	ScheduleExpression         string
	ScheduleExpressionTimezone string
	FlexibleTimeWindow         struct {
		Mode                   string
		MaximumWindowInMinutes int
	}
	Target struct {
		Arn, RoleArn, Input string
		DeadLetterConfig    struct{ Arn string }
		RetryPolicy         struct{ MaximumEventAgeInSeconds, MaximumRetryAttempts int }
	}
}

// Schedules are all schedules by their names.
func (s *Server) Schedules() map[string]Schedule {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.schedules)
}

var (
	scheduleName = regexp.MustCompile(`^[0-9a-zA-Z-_.]{1,64}$`)
	dailyCron    = regexp.MustCompile(`^cron\(([0-9]|[1-5][0-9]) ([0-9]|1[0-9]|2[0-3]) \* \* \? \*\)$`)
)

func (s *Server) routeSchedule(r *http.Request, name string) (string, handler) {
	switch r.Method {
	case http.MethodPost:
		return "CreateSchedule", func(body []byte) answer {
			if _, known := s.schedules[name]; known {
				return refuse(409, "ConflictException")
			}
			return s.putSchedule(name, body)
		}
	case http.MethodPut:
		return "UpdateSchedule", func(body []byte) answer {
			if _, known := s.schedules[name]; !known {
				return refuse(404, "ResourceNotFoundException")
			}
			return s.putSchedule(name, body)
		}
	case http.MethodDelete:
		return "DeleteSchedule", func([]byte) answer {
			if _, known := s.schedules[name]; !known {
				return refuse(404, "ResourceNotFoundException")
			}
			delete(s.schedules, name)
			return succeed(map[string]string{})
		}
	}
	return "", nil
}

func (s *Server) putSchedule(name string, body []byte) answer {
	var in Schedule
	if err := json.Unmarshal(body, &in); err != nil {
		return refuseValue("%v", err)
	}
	_, err := time.LoadLocation(in.ScheduleExpressionTimezone)
	switch {
	case !scheduleName.MatchString(name):
		return refuseValue("name %q", name)
	case !dailyCron.MatchString(in.ScheduleExpression):
		return refuseValue("expression %q", in.ScheduleExpression)
	case err != nil || in.ScheduleExpressionTimezone == "":
		return refuseValue("time zone %q", in.ScheduleExpressionTimezone)
	case in.FlexibleTimeWindow.Mode == "FLEXIBLE" && (in.FlexibleTimeWindow.MaximumWindowInMinutes < 1 || in.FlexibleTimeWindow.MaximumWindowInMinutes > 1440):
		return refuseValue("window of %d minutes", in.FlexibleTimeWindow.MaximumWindowInMinutes)
	case in.Target.RetryPolicy.MaximumEventAgeInSeconds < 60 || in.Target.RetryPolicy.MaximumEventAgeInSeconds > 86400 || in.Target.RetryPolicy.MaximumRetryAttempts > 185:
		return refuseValue("retry policy %+v", in.Target.RetryPolicy)
	case !json.Valid([]byte(in.Target.Input)):
		return refuseValue("input %q", in.Target.Input)
	}
	s.schedules[name] = in
	return succeed(map[string]string{"ScheduleArn": "arn:aws:scheduler:" + Region + ":" + Account + ":schedule/" + in.GroupName + "/" + name})
}

// PutSecret stores a secret's text.
func (s *Server) PutSecret(name, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[name] = text
}

func (s *Server) getSecretValue(body []byte) answer {
	var in struct {
		SecretID string `json:"SecretId"`
	}
	_ = json.Unmarshal(body, &in)
	text, ok := s.secrets[in.SecretID]
	if !ok {
		return refuse(400, "ResourceNotFoundException")
	}
	return succeed(map[string]any{"Name": in.SecretID, "SecretString": text})
}

// OpenSocket opens a socket that messages can be sent to.
func (s *Server) OpenSocket(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets[id] = &[]json.RawMessage{}
}

// CloseSocket closes it: sending to it fails from now on.
func (s *Server) CloseSocket(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets, id)
}

// Messages are what an open socket has received.
func (s *Server) Messages(id string) []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sockets[id] == nil {
		return nil
	}
	return slices.Clone(*s.sockets[id])
}

// Disconnected are what a socket had received when the service disconnected it; not ok: it did not.
func (s *Server) Disconnected(id string) (messages []json.RawMessage, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages, ok = s.disconnected[id]
	return messages, ok
}

func (s *Server) deleteConnection(id string) answer {
	socket := s.sockets[id]
	if socket == nil {
		return refuse(410, "GoneException")
	}
	s.disconnected[id] = *socket
	delete(s.sockets, id)
	return answer{status: 204}
}

// maxFrameBytes: https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html (read 2026-11).
const maxFrameBytes = 32 << 10

func (s *Server) postToConnection(id string, body []byte) answer {
	socket := s.sockets[id]
	switch {
	case socket == nil:
		return refuse(410, "GoneException")
	case len(body) > maxFrameBytes:
		return refuse(413, "PayloadTooLargeException")
	}
	*socket = append(*socket, body)
	return answer{status: 200}
}
