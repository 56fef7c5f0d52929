// Package client talks to the API of a Sitevault service: typed calls, lists as iterators, watching a backup live and
// downloading its files with proof.
package client
