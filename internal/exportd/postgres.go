package exportd

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Postgres is the source of one PostgreSQL database as "<database>.sql", read by pg_dump in one transaction. rawURL is a libpq
// URI, postgres://user:password@host:port/database?sslmode=...; its password goes to pg_dump by PGPASSWORD, without one
// libpq's own password file applies. The format is plain SQL: it shows by its end mark that it is complete, psql of any
// later version restores it, and the archive compresses it.
func Postgres(rawURL string) (Source, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errDatabaseURL()
	}
	database, err := databaseIn(u)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	for name := range u.Query() {
		if strings.Contains(strings.ToLower(name), "password") {
			return nil, errors.New("postgres: give the password before the host, user:password@host, not as a parameter")
		}
	}
	password, _ := u.User.Password()
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	args := []string{"--format=plain", "--no-password", "--lock-wait-timeout=60s", "--dbname=" + u.String()}
	return &dump{
		tools: []string{"pg_dump"}, args: func(string) []string { return args },
		password: password, variable: "PGPASSWORD",
		entry: database + ".sql", endMark: "-- PostgreSQL database dump complete",
	}, nil
}
