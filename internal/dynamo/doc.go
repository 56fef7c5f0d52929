// Package dynamo keeps sites, jobs, files and parts in one DynamoDB table. docs/store.md shows the rows, who reads and
// writes them, and the arithmetic behind them.
//
// Every transition is one conditional write: a TransactWriteItems whose conditions name all rows that it stands on. A
// refused condition is told by its place in the transaction (transact), so that each has one meaning. The SDK sends the
// same ClientRequestToken with every try of a call, so that a try whose reply was lost is not taken for somebody else's
// write. The token is never derived from what is written: two callers may want the same write, and only one may have it.
//
// Jobs are listed from rows of their own and not from an index: an index lags behind, and a backup that was just asked
// for must be in the list. A listing row is written once with its job and holds its id only, so that the many changes of
// a job cost nothing there; the jobs themselves are then read by key. Only DueJobs reads an index: it finds a job late
// rather than never, and the rows are read again from the table.
//
// The parts of one file arrive at up to a hundred a second, more than the few dozen transactions a second that can meet
// on one row without cancelling each other. So a part is not checked against its job and its file but against one of the
// job's gates (gate.go), copies of what admits parts that change in the same transaction as the original.
package dynamo
