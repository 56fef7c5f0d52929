package exportd

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// MySQLConfig names one database of a MySQL or MariaDB server.
type MySQLConfig struct {
	Host     string // empty: the server on this machine, by its socket
	Port     int    // 0: 3306
	Socket   string // path of a Unix socket, instead of Host
	User     string
	Password string // empty: the tool's option files apply, such as ~/.my.cnf; otherwise they are not read
	Database string
	Tool     string // empty: mariadb-dump or mysqldump, whichever is in PATH
}

const mariadbDump = "mariadb-dump"

// MySQL is the source of one database as "<database>.sql", one consistent version of its transactional tables, with routines,
// triggers and events. It runs the dump tool, which must be installed. The user needs SELECT, SHOW VIEW, TRIGGER, EVENT
// and the right to read routines.
func MySQL(c MySQLConfig) (Source, error) {
	if err := checkDatabaseName(c.Database); err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	if c.Host != "" && c.Socket != "" {
		return nil, fmt.Errorf("mysql database %s: host and socket exclude each other", c.Database)
	}
	tools := []string{mariadbDump, "mysqldump"}
	if c.Tool != "" {
		tools = []string{c.Tool}
	}
	return &dump{
		tools: tools, args: func(tool string) []string { return mysqlArgs(c, tool) },
		password: c.Password, variable: "MYSQL_PWD",
		entry: c.Database + ".sql", endMark: "-- Dump completed",
	}, nil
}

func mysqlArgs(c MySQLConfig, tool string) []string {
	var args []string
	if c.Password != "" {
		args = append(args, "--no-defaults") // a password in an option file would outrank MYSQL_PWD; must come first
	}
	switch {
	case c.Socket != "":
		args = append(args, "--protocol=socket", "--socket="+c.Socket)
	case c.Host != "":
		args = append(args, "--protocol=tcp", "--host="+c.Host) // tcp also for "localhost", which would mean the socket
	}
	if c.Port != 0 {
		args = append(args, "--port="+strconv.Itoa(c.Port))
	}
	if c.User != "" {
		args = append(args, "--user="+c.User)
	}
	args = append(args,
		"--single-transaction", // one version of all InnoDB tables, without locking the site out
		"--quick",              // row by row: memory does not grow with a table
		"--routines", "--triggers", "--events",
		"--hex-blob", "--default-character-set=utf8mb4",
		"--max-allowed-packet=1G",
		"--no-tablespaces", // would need the PROCESS privilege
		"--comments",       // an option file could turn off the end mark
		"--skip-dump-date") // equal content gives equal bytes, so an interrupted job can go on
	if filepath.Base(tool) != mariadbDump {
		// MySQL's own options; a MariaDB tool of the old name only warns, because of "loose".
		args = append(args, "--loose-set-gtid-purged=OFF", "--loose-column-statistics=0")
	}
	return append(args, "--", c.Database)
}
