package integration_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
	"github.com/sitevault/sitevault/internal/step"
)

// backupIsProven compares every byte that is stored with the export and with the site itself.
func (s *story) backupIsProven(t *testing.T) {
	asked := s.alice.create(t, siteID)
	s.job = s.alice.reaches(t, asked.JobID, backup.Done)
	var m step.Manifest
	prefix := s.alice.id + "/" + siteID + "/" + s.job.JobID + "/"
	if err := json.Unmarshal(s.storage.object(t, prefix+"manifest.json"), &m); err != nil {
		t.Fatal(err)
	}
	if m.JobID != s.job.JobID || m.UserID != s.alice.id || m.SiteID != siteID || m.Trigger != backup.Manual || len(m.Files) != 2 {
		t.Errorf("manifest %+v", m)
	}
	keys, sum := []string{prefix + "manifest.json"}, int64(0)
	for _, f := range m.Files {
		stored := s.storage.object(t, f.Key)
		if exported := s.agent.export(t, f.Name, s.job.JobID); !bytes.Equal(stored, exported) {
			t.Errorf("%s: the %d bytes stored are not the %d bytes exported", f.Name, len(stored), len(exported))
		}
		if f.SizeBytes != int64(len(stored)) || f.CRC64NVME != crcOf(stored) {
			t.Errorf("%s: the manifest says %+v, which is not what is stored", f.Name, f)
		}
		if linked := s.download(t, f.Name); !bytes.Equal(linked, stored) {
			t.Errorf("%s: the link leads to something else", f.Name)
		}
		map[string]func(*testing.T, []byte){"files": s.agent.holdsFolder, "database": s.agent.holdsDatabase}[f.Name](t, stored)
		keys, sum = append(keys, f.Key), sum+f.SizeBytes
	}
	slices.Sort(keys)
	if stored, begun := s.storage.contents(t, ""); !slices.Equal(stored, keys) || len(begun) != 0 {
		t.Errorf("the bucket holds %q and the uploads %q, not just %q", stored, begun, keys)
	}
	if s.job.SizeBytes != sum || s.job.Attempt != 1 || s.job.Progress.Parts < 4 {
		t.Errorf("job %+v; the objects have %d bytes", s.job, sum)
	}
}

// download reads a file of the backup by its link.
func (s *story) download(t *testing.T, file string) []byte {
	t.Helper()
	link, err := s.alice.Link(t.Context(), s.job.JobID, file)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get(link.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", link.URL, answer.Status, err)
	}
	return content
}

// crcOf writes the sum as S3 does.
func crcOf(content []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc64nvme.Checksum(content)))
}

func (d *deployment) executionARN(jobID string, attempt int) string {
	return strings.Replace(d.output.App.StateMachineARN, ":stateMachine:", ":execution:", 1) + fmt.Sprintf(":%s-%d", jobID, attempt)
}

func (s *story) executionSucceeded(t *testing.T) {
	machines := sfn.NewFromConfig(s.config)
	arn := s.executionARN(s.job.JobID, 1)
	execution, err := machines.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	if execution.Status != sfntypes.ExecutionStatusSucceeded {
		t.Errorf("the execution ended %s: %s", execution.Status, aws.ToString(execution.Cause))
	}
	visited := map[string]bool{}
	pages := sfn.NewGetExecutionHistoryPaginator(machines, &sfn.GetExecutionHistoryInput{ExecutionArn: &arn})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if e.StateEnteredEventDetails != nil {
				visited[*e.StateEnteredEventDetails.Name] = true
			}
		}
	}
	for _, state := range []string{"StartJob", "UploadFiles", "FinishJob", "JobOutcome", "JobDone"} {
		if !visited[state] {
			t.Errorf("state %s was not entered; of %v", state, visited)
		}
	}
	// The emulator's history leaves out what happens within a Map.
	for _, function := range []string{"start-job", "open-upload", "export-range-upload", "complete-multipart", "inspect-archive", "finish-job"} {
		if len(s.logs(t, function)) == 0 {
			t.Errorf("function %s did not run", function)
		}
	}
	if len(s.logs(t, "fail-file")) != 0 {
		t.Error("function fail-file ran")
	}
}

// rowsAgree reads the table itself.
func (s *story) rowsAgree(t *testing.T) {
	counts := map[string]int{}
	pages := dynamodb.NewScanPaginator(dynamodb.NewFromConfig(s.config), &dynamodb.ScanInput{TableName: &s.output.Data.TableName})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range page.Items {
			if kind, ok := row[dynamo.TypeAttribute].(*types.AttributeValueMemberS); ok {
				counts[kind.Value]++
			}
			for attribute, value := range row {
				if text, ok := value.(*types.AttributeValueMemberS); ok && strings.Contains(text.Value, s.agent.token) {
					t.Errorf("attribute %s of a row holds the provider's secret", attribute)
				}
			}
		}
	}
	if counts[dynamo.JobType] != 1 || counts[dynamo.FileType] != 2 {
		t.Errorf("rows by type: %v", counts)
	}
	if parts := s.job.Progress.Parts; counts[dynamo.PartType] != parts {
		t.Errorf("%d rows of parts, not %d", counts[dynamo.PartType], parts)
	}
	tasks := map[step.TaskType]int{}
	for task, err := range s.alice.Tasks(t.Context(), s.job.JobID) {
		if err != nil {
			t.Fatal(err)
		}
		if task.Status != step.TaskDone {
			t.Errorf("task %+v", task)
		}
		tasks[task.Type]++
	}
	if tasks["UploadFile"] != 2 || tasks["UploadPart"] < 2 {
		t.Errorf("tasks by type: %v", tasks)
	}
}
