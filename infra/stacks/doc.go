// Package stacks describes what Sitevault is on AWS. The stacks are split by how long what they hold has to live: Data
// keeps backups, rows and users; App is the service and may be replaced at any time; Ops watches it.
package stacks
