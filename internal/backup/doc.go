// Package backup is the domain: sites, jobs, files, parts, the plan that cuts a file into parts, the legal
// transitions between states, and the closed list of error kinds. It does no I/O and imports the standard library only.
//
// A transition is a pure function from a row to its successor. Whoever wants one reads the row, applies the function
// and writes the successor by one conditional write on the row's revision; a lost race is read and decided again.
package backup
