// Package integration holds the test of the AWS form without an account: the CDK app deployed by the CDK's own command
// line into MiniStack, an emulator of AWS, which runs the functions' programs as they are built. Only S3 is somebody
// else's, a versitygw process, since the emulator does not check CRC64NVME. `make integration` runs it.
package integration
