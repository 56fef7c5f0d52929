package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// functionNames are those of all deployed functions, without the deployment's.
func (d *deployment) functionNames(t *testing.T) (names []string) {
	t.Helper()
	for _, f := range d.functions(t) {
		names = append(names, strings.TrimPrefix(f.FunctionName, name+"-"))
	}
	return names
}

// function is a deployed function as Lambda describes it.
type function struct{ FunctionName, FunctionArn, Role string }

func (d *deployment) functions(t *testing.T) []function {
	t.Helper()
	var listed struct{ Functions []function }
	d.rest(t, "GET", "lambda", "/2015-03-31/functions/?MaxItems=50", nil, &listed)
	return listed.Functions
}

// logs are the lines that the function has written.
func (d *deployment) logs(t *testing.T, function string) (lines []string) {
	t.Helper()
	for token := ""; ; {
		in := map[string]any{"logGroupName": "/aws/lambda/" + name + "-" + function}
		if token != "" {
			in["nextToken"] = token
		}
		var page struct {
			Events    []struct{ Message string }
			NextToken string
		}
		d.json(t, "logs", "Logs_20140328.FilterLogEvents", in, &page)
		for _, e := range page.Events {
			lines = append(lines, strings.TrimRight(e.Message, "\n"))
		}
		if token = page.NextToken; token == "" {
			return lines
		}
	}
}

// saveLogs keeps the functions' logs, for whoever looks for the cause of a failure.
func (d *deployment) saveLogs(t *testing.T) {
	folder := filepath.Join(d.work, "logs")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, function := range d.functionNames(t) {
		content := strings.Join(d.logs(t, function), "\n") + "\n"
		if err := os.WriteFile(filepath.Join(folder, function+".log"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("the functions' logs are in %s", folder)
}
