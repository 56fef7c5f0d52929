// Package asl runs one Amazon States Language file inside this process, with the results, errors, limits and history
// that AWS Step Functions (Standard workflows, JSONPath query language) would show for the same file. It knows nothing
// of what the tasks do: a Task's Resource is a placeholder "${Name}" that a deployment substitutes with an ARN, and
// here the handler registered as Name is called instead.
//
// Whatever is not listed below is refused by [Load], with an error that names the state and the field; a file that
// loads therefore never behaves differently here because a field was overlooked.
//
// # Supported
//
//	machine   Comment, StartAt, States, TimeoutSeconds, Version "1.0", QueryLanguage "JSONPath"
//	states    Comment, Type, Next, End, InputPath, OutputPath (null discards), and by type:
//	Task      Resource, Parameters, ResultSelector, ResultPath, TimeoutSeconds, TimeoutSecondsPath, Retry, Catch
//	Map       ItemProcessor (ProcessorConfig.Mode INLINE), ItemsPath, ItemSelector, MaxConcurrency,
//	          MaxConcurrencyPath, ResultSelector, ResultPath, Retry, Catch
//	Choice    Choices, Default; And, Or, Not, StringEquals, StringMatches, BooleanEquals, NumericEquals,
//	          NumericLessThan, NumericLessThanEquals, NumericGreaterThan, NumericGreaterThanEquals, IsPresent, IsNull
//	Pass      Result or Parameters, ResultPath
//	Wait      Seconds, SecondsPath, Timestamp, TimestampPath
//	Succeed   the common fields
//	Fail      Error or ErrorPath, Cause or CausePath
//	Retry     ErrorEquals, IntervalSeconds, MaxAttempts, BackoffRate, MaxDelaySeconds, JitterStrategy; each retrier
//	          counts its own attempts
//	Catch     ErrorEquals, Next, ResultPath
//
// Paths are reference paths: $, $.a.b, $['a b'], $.a[0]. The context object offers $$.Execution.Id, .Name, .Input and
// .StartTime, $$.State.Name, .EnteredTime and .RetryCount, $$.StateMachine.Name and, inside a Map or its
// ItemSelector, $$.Map.Item.Index and .Value. Wildcards, slices, filters, functions and intrinsic functions are
// refused. ResultPath takes names only.
//
// # Errors
//
// A path that selects nothing, a Choice without a match and a history that is full are States.Runtime: they end the
// execution at once and no Retry or Catch sees them. States.DataLimitExceeded can be caught by its own name, but not
// by a wildcard. States.ALL must stand alone and last; States.TaskFailed matches every error but States.Timeout.
//
// # Where one process differs
//
// A task that exceeds its TimeoutSeconds has its context cancelled, and the machine goes on only when the handler has
// returned, so that two attempts of one task never overlap. A handler must therefore heed its context. For the same
// reason Run returns only when every handler has returned.
//
// A handler's [Error] may ask for a longer pause than its Retry has. A Lambda function has no way to do so and must sleep on it.
package asl
