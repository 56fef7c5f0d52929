//go:build race

package e2e_test

// raceFactor is what the race detector takes in memory.
const raceFactor = 3
