package sqlite

// FirstSchema is what the first release made.
var FirstSchema = migrations[0]
