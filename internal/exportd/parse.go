package exportd

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// ParseDatabase makes the source that s names:
//
//	mysql://user:password@host:3306/database    also mariadb://; ?socket=/path instead of a host
//	postgres://user:password@host:5432/database also postgresql://; libpq's parameters after "?"
//	sqlite:///absolute/path                     or any path without a scheme
//
// Special characters of user, password and database are percent-encoded. No error shows the password.
func ParseDatabase(s string) (Source, error) {
	scheme, _, _ := strings.Cut(s, ":")
	switch scheme {
	case "mysql", "mariadb":
		return parseMySQL(s)
	case "postgres", "postgresql":
		return Postgres(s)
	case "sqlite":
		return parseSQLite(s)
	case "":
		return nil, errors.New("the database is empty")
	}
	if strings.Contains(s, "://") {
		return nil, errors.New("the database has an unknown scheme: want mysql, postgres or sqlite, or the path of an SQLite file")
	}
	return SQLite(s)
}

// databaseIn is the one path element of a database URL. An at sign in it is the end of a password that was not
// percent-encoded and broke the URL at a slash.
func databaseIn(u *url.URL) (string, error) {
	name, ok := strings.CutPrefix(u.Path, "/")
	if !ok || strings.Contains(name, "@") || u.Opaque != "" || u.Fragment != "" {
		return "", errDatabaseURL()
	}
	return name, checkDatabaseName(name)
}

// errDatabaseURL leaves out what url.Parse says, because that quotes the URL with its password.
func errDatabaseURL() error {
	return errors.New("the database URL does not parse: want scheme://user:password@host:port/database, " +
		"with special characters of user, password and database percent-encoded")
}

func parseMySQL(s string) (Source, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errDatabaseURL()
	}
	database, err := databaseIn(u)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	query := u.Query()
	for name := range query {
		if name != "socket" {
			return nil, errors.New("mysql: the only parameter is socket; TLS and other settings belong in an option file")
		}
	}
	port := 0
	if u.Port() != "" {
		if port, err = strconv.Atoi(u.Port()); err != nil || port < 1 || port > 65535 {
			return nil, errDatabaseURL()
		}
	}
	password, _ := u.User.Password()
	return MySQL(MySQLConfig{
		Host: u.Hostname(), Port: port, Socket: query.Get("socket"),
		User: u.User.Username(), Password: password, Database: database,
	})
}

func parseSQLite(s string) (Source, error) {
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Host != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the SQLite URL does not parse: want sqlite:///absolute/path, percent-encoded, or the bare path")
	}
	return SQLite(u.Path)
}
