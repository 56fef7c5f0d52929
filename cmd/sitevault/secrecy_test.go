package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// A file with a token or a secret that others can read is refused by every command, with what to type.
func TestFilesOpenToOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED, files have no modes here")
	}
	site, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	token, stored := filepath.Join(site, "token"), filepath.Join(data, "secrets", "local", "shop")
	folder := filepath.Dir(stored)
	s := setting{input: "s3cret"}
	if got := s.run(t, "secret", "put", "shop", "--data", data); got.code != exitOK {
		t.Fatalf("%+v", got)
	}
	if err := os.WriteFile(token, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, commands := range map[string][]string{
		token: {
			"agent --files " + site + " --dir " + t.TempDir() + " --listen 256.0.0.1:0 --token-file " + token,
			"site list --server http://127.0.0.1:1 --token-file " + token,
			"secret put other --data " + data + " --file " + token,
		},
		stored: {"serve --listen 127.0.0.1:0 --versitygw /nowhere --data " + data},
		folder: {"serve --listen 127.0.0.1:0 --versitygw /nowhere --data " + data},
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, info.Mode().Perm()|0o040); err != nil {
			t.Fatal(err)
		}
		want := "chmod 600 " + path
		if info.IsDir() {
			want = "chmod 700 " + path
		}
		for _, command := range commands {
			if got := s.run(t, strings.Fields(command)...); got.code == exitOK || !strings.Contains(got.err, want+"\n") {
				t.Errorf("%s: %+v", command, got)
			}
		}
		if err := os.Chmod(path, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
		if command := commands[len(commands)-1]; path == token {
			if got := s.run(t, strings.Fields(command)...); got.code != exitOK {
				t.Errorf("after it was closed: %s: %+v", command, got)
			}
		}
	}
}

// A password on the command line is warned about, with the variable that takes it; one in the variable is not.
func TestPasswordOnTheCommandLine(t *testing.T) {
	const canary = "canary-of-a-password"
	for _, tc := range []struct {
		args     []string
		variable string // "": no warning
	}{
		{[]string{"agent", "--dir", "/nowhere", "--database", "mysql://u:" + canary + "@127.0.0.1/shop"}, "$SITEVAULT_AGENT_DATABASE"},
		{[]string{"agent", "--dir", "/nowhere", "--database=postgres://u:" + canary + "@x@127.0.0.1/shop"}, "$SITEVAULT_AGENT_DATABASE"},
		{[]string{"agent", "--dir", "/nowhere", "--database", "mysql://u:" + canary + "/%zz#@127.0.0.1/shop"}, "$SITEVAULT_AGENT_DATABASE"},
		{[]string{"serve", "--data", "/nowhere", "--s3-endpoint", "http://a:" + canary + "@127.0.0.1"}, "$SITEVAULT_S3_ENDPOINT"},
		{[]string{"agent", "--dir", "/nowhere", "--database", "mysql://u@127.0.0.1:3306/shop"}, ""},
		{[]string{"agent", "--dir", "/nowhere", "--database", "/var/lib/a:b@c.sqlite"}, ""},
		{[]string{"agent", "--dir", "/nowhere", "--listen", "256.0.0.1:0"}, ""},
	} {
		s := setting{env: map[string]string{"SITEVAULT_AGENT_FILES": "/nowhere"}}
		if tc.variable == "" {
			s.env["SITEVAULT_AGENT_DATABASE"] = "mysql://u:" + canary + "@127.0.0.1/shop"
		}
		got := s.run(t, tc.args...)
		warned := strings.Contains(got.err, "Warning: the password in --") && strings.Contains(got.err, tc.variable+" instead")
		if warned != (tc.variable != "") || strings.Contains(got.err, canary) {
			t.Errorf("%q: %s", tc.args, got.err)
		}
	}
}

// The demo warns as well.
func TestDemoWarns(t *testing.T) {
	d := newDemo(t, "--site", "/nowhere", "--db", "mysql://u:canary@127.0.0.1/shop")
	if err := d.Run(); err == nil || !strings.Contains(d.stderr.String(), "$SITEVAULT_DEMO_DB instead") || strings.Contains(d.stderr.String(), "canary") {
		t.Errorf("%v: %s", err, d.stderr.String())
	}
}

// make demo DB=... warns as well, since make shows its arguments to everybody.
func TestMakeWarns(t *testing.T) {
	for _, tc := range []struct {
		args   []string
		env    string
		warned bool
	}{
		{[]string{"DB=mysql://u:secret@127.0.0.1/shop"}, "", true},
		{[]string{"DB=shop.sqlite"}, "", false},
		{nil, "DB=mysql://u:secret@127.0.0.1/shop", false},
	} {
		cmd := exec.Command("make", append([]string{"-C", "../..", "-o", "build", "demo", "BIN=" + binWithProgram(t)}, tc.args...)...)
		cmd.Env = append(os.Environ(), tc.env)
		output, err := cmd.CombinedOutput()
		if warned := strings.Contains(string(output), "Warning: the password in DB"); err != nil || warned != tc.warned || !strings.Contains(string(output), "ran demo") {
			t.Errorf("%q, %q: %v\n%s", tc.args, tc.env, err, output)
		}
	}
}

// binWithProgram is a folder with a sitevault that only says that it was run.
func binWithProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sitevault"), []byte("#!/bin/sh\necho ran $1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}
