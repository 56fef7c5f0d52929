package backup

// EventName names a domain event. Consumers of the bus match on it.
type EventName string

const (
	BackupJobCreated       EventName = "BackupJobCreated"
	BackupJobStarted       EventName = "BackupJobStarted"
	BackupJobRetried       EventName = "BackupJobRetried"
	BackupJobFinished      EventName = "BackupJobFinished" // done or failed
	BackupJobDeleting      EventName = "BackupJobDeleting"
	BackupJobDeleted       EventName = "BackupJobDeleted"
	UploadTaskCreated      EventName = "UploadTaskCreated"
	UploadPartTaskCreated  EventName = "UploadPartTaskCreated"
	UploadPartTaskFinished EventName = "UploadPartTaskFinished"
	UploadFileTaskFinished EventName = "UploadFileTaskFinished" // done or failed
)

// JobEvent names the event of a job's change from old to next; old.Rev is 0 for a job just created. "" when the
// change is not a transition that clients hear of.
func JobEvent(old, next Job) EventName {
	switch {
	case old.Rev == 0:
		return BackupJobCreated
	case old.Attempt != next.Attempt:
		return BackupJobRetried
	case old.Status == next.Status:
		return ""
	case next.Status == Running:
		return BackupJobStarted
	case next.Status == Done, next.Status == Failed:
		return BackupJobFinished
	case next.Status == Deleting:
		return BackupJobDeleting
	case next.Status == Deleted:
		return BackupJobDeleted
	}
	return ""
}

// FileEvents names the events of a file's change from old to next; old has no attempt if the file was never opened.
// Opening an upload plans its part tasks, so that one write creates both.
func FileEvents(old, next File) []EventName {
	switch {
	case next.Status == FileOpen && old.UploadID != next.UploadID:
		if old.Attempt == 0 {
			return []EventName{UploadTaskCreated, UploadPartTaskCreated}
		}
		return []EventName{UploadPartTaskCreated}
	case old.Status == next.Status:
		return nil
	case next.Status == FileDone, next.Status == FileFailed:
		return []EventName{UploadFileTaskFinished}
	}
	return nil
}
