package integration_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
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

// rightsAtS3 asks the emulator whether the roles of the functions allow what they have done at the storage, which does
// not ask itself.
func (s *story) rightsAtS3(t *testing.T) {
	roles := map[string]function{}
	for _, f := range s.functions(t) {
		roles[accessKey(f)] = f
	}
	asked := 0
	for _, u := range s.storage.used() {
		f, known := roles[u.accessKey]
		if !known {
			t.Errorf("%s of %q by a key that is no function's", u.action, u.key)
			continue
		}
		resource := "arn:aws:s3:::" + s.storage.bucket
		if u.key != "" {
			resource += "/" + u.key
		}
		asked++
		if decision := s.decision(t, f.Role, u.action, resource); decision != "allowed" {
			t.Errorf("%s may not do %s on %s, and has done it: %s", f.FunctionName, u.action, resource, decision)
		}
	}
	if asked == 0 {
		t.Error("nobody has used the storage")
	}
	// The proof can fail: what a function does not need it may not do.
	if decision := s.decision(t, s.role(t, "status"), "s3:PutObject", "arn:aws:s3:::"+s.storage.bucket+"/any"); decision == "allowed" {
		t.Error("the function that only reads may write objects")
	}
}

// accessKey is the one under which the pinned release of the emulator lets a function call.
func accessKey(f function) string {
	sum := sha256.Sum256([]byte(f.FunctionArn + ":" + f.Role))
	return "ASIA" + strings.ToUpper(hex.EncodeToString(sum[:])[:16])
}

func (d *deployment) decision(t *testing.T, role, action, resource string) (decision string) {
	t.Helper()
	d.query(t, "iam", url.Values{
		"Action": {"SimulatePrincipalPolicy"}, "Version": {"2010-05-08"}, "PolicySourceArn": {role},
		"ActionNames.member.1": {action}, "ResourceArns.member.1": {resource},
	}, func(body []byte) error {
		var answer struct {
			Decision string `xml:"SimulatePrincipalPolicyResult>EvaluationResults>member>EvalDecision"`
		}
		err := xml.Unmarshal(body, &answer)
		decision = answer.Decision
		return err
	})
	return decision
}

// nothingIsLeft: no event was given up, and no call was refused for want of rights.
func (s *story) nothingIsLeft(t *testing.T) {
	for _, function := range []string{"daily-run", "sweep", "execution-ended", "clean", "stream"} {
		var queue struct {
			URL string `json:"QueueUrl"`
		}
		s.json(t, "sqs", "AmazonSQS.GetQueueUrl", map[string]string{"QueueName": name + "-" + function + "-dead-letters"}, &queue)
		var got struct{ Messages []struct{ Body string } }
		s.json(t, "sqs", "AmazonSQS.ReceiveMessage", map[string]any{"QueueUrl": queue.URL, "MaxNumberOfMessages": 10}, &got)
		for _, m := range got.Messages {
			t.Errorf("dead letter of %s: %s", function, m.Body)
		}
	}
	for _, denial := range s.front.denials() {
		t.Errorf("refused for want of rights: %s", denial)
	}
}
