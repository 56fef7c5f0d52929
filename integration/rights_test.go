package integration_test

import (
	"net/url"
	"strings"
	"testing"
)

// allow gives the role of a function one right more, where the emulator asks for another than AWS does.
func (d *deployment) allow(t *testing.T, function, action, resource string) {
	t.Helper()
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}]}`
	d.query(t, "iam", url.Values{
		"Action": {"PutRolePolicy"}, "Version": {"2010-05-08"}, "RoleName": {roleName(d.role(t, function))},
		"PolicyName": {"emulator"}, "PolicyDocument": {policy},
	}, func([]byte) error { return nil })
}

// role is the ARN of the function's role.
func (d *deployment) role(t *testing.T, function string) string {
	t.Helper()
	for _, f := range d.functions(t) {
		if f.FunctionName == name+"-"+function {
			return f.Role
		}
	}
	t.Fatalf("there is no function %s", function)
	return ""
}

func roleName(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }
