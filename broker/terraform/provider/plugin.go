package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// startTimeout is how long a provider may take until it listens.
	startTimeout = time.Minute
	// stopTimeout is how long it may take to end when asked to.
	stopTimeout = 2 * time.Second

	shutdownMethod = "/plugin.GRPCController/Shutdown"
	stdioMethod    = "/plugin.GRPCStdio/StreamStdio"
)

// pluginEnvironment makes a program serve as a plugin instead of telling its user
// that it is one, and names the versions of the protocol that a relay knows.
// Without a certificate in it there is no TLS: the socket is in a private directory.
func pluginEnvironment(sockets string) []string {
	return append(os.Environ(),
		"TF_PLUGIN_MAGIC_COOKIE=d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
		"PLUGIN_PROTOCOL_VERSIONS=5,6",
		"PLUGIN_UNIX_SOCKET_DIR="+sockets)
}

// plugin is a provider's process and the connection to it.
type plugin struct {
	address string // source address
	version int    // of the protocol
	process *os.Process
	conn    *grpc.ClientConn
	exited  chan struct{} // closed at the end of the process
	reading sync.WaitGroup

	schemas schemaCache
	config  configuration
}

// startPlugin starts a provider. Its output goes to log, which must not be a file:
// the host's log is locked, and locks are inherited with files.
func startPlugin(ctx context.Context, address, program, dir string, log io.Writer) (*plugin, error) {
	fail := func(err error) (*plugin, error) { return nil, fmt.Errorf("start provider %s: %w", address, err) }
	ctx = context.WithoutCancel(ctx)
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir = dir
	cmd.Env = pluginEnvironment(ownPath(dir, ""))
	stdout := &firstLine{line: make(chan string, 1), rest: log}
	cmd.Stdout, cmd.Stderr = stdout, log
	cmd.WaitDelay = stopTimeout // its children may hold its output open
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	p := &plugin{address: address, process: cmd.Process, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // that it has ended says all
		close(p.exited)
	}()
	var line, network, socket string
	var err error
	select {
	case line = <-stdout.line:
	case <-p.exited:
		return fail(errors.New("it ended at once"))
	case <-time.After(startTimeout):
		p.kill()
		return fail(fmt.Errorf("it did not listen within %s", startTimeout))
	}
	if p.version, network, socket, err = parseHandshake(line); err != nil {
		p.kill()
		return fail(err)
	}
	if p.conn, err = dial(network, socket); err != nil {
		p.kill()
		return fail(err)
	}
	p.reading.Go(func() { p.copyOutput(ctx, log) })
	return p, nil
}

// firstLine hands over the first line that is written to it, and writes the rest
// elsewhere.
type firstLine struct {
	line chan string // of one
	rest io.Writer

	begun []byte
	over  bool
}

func (f *firstLine) Write(p []byte) (int, error) {
	if f.over {
		return f.rest.Write(p)
	}
	f.begun = append(f.begun, p...)
	if line, rest, ok := bytes.Cut(f.begun, []byte("\n")); ok {
		f.over = true
		f.line <- string(line)
		_, _ = f.rest.Write(rest)
	}
	return len(p), nil
}

// parseHandshake reads the line by which a plugin says where it listens:
// core protocol version, version, network, address, protocol.
func parseHandshake(line string) (version int, network, address string, err error) {
	parts := strings.Split(strings.TrimSpace(line), "|")
	if len(parts) < 5 || parts[0] != "1" {
		return 0, "", "", fmt.Errorf("it does not begin as a plugin does, but with %q", line)
	}
	version, err = strconv.Atoi(parts[1])
	if err != nil || version != 5 && version != 6 || parts[4] != "grpc" {
		return 0, "", "", fmt.Errorf("it speaks version %s of the protocol %q: version 5 or 6 of grpc is needed", parts[1], parts[4])
	}
	return version, parts[2], parts[3], nil
}

func dial(network, address string) (*grpc.ClientConn, error) {
	if network != "unix" {
		return nil, fmt.Errorf("it listens on the network %q, not on a Unix socket", network)
	}
	return grpc.NewClient("unix:"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithIdleTimeout(0),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
}

// copyOutput copies what a provider writes to its standard output and error: a
// plugin takes these from its program, and blocks if nobody reads.
func (p *plugin) copyOutput(ctx context.Context, log io.Writer) {
	const data = 2 // the field of the stream's messages
	stream, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, stdioMethod)
	if err != nil {
		return // a plugin of an old library: it has no such stream, and does not block
	}
	err = stream.SendMsg(&message{})
	err = errors.Join(err, stream.CloseSend())
	for err == nil {
		var m message
		if err = stream.RecvMsg(&m); err == nil {
			_, _ = log.Write(field(m, data).bytes)
		}
	}
}

// stop ends the process, in order if it can.
func (p *plugin) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	_ = p.conn.Invoke(ctx, shutdownMethod, &message{}, &message{}) // it may die of it before it answers
	select {
	case <-p.exited:
	case <-ctx.Done():
	}
	_ = p.conn.Close()
	p.reading.Wait()
	p.kill()
}

func (p *plugin) kill() {
	_ = p.process.Kill() // an error says that it has ended
	<-p.exited
}

// invoke does one call of one message each way.
func (p *plugin) invoke(ctx context.Context, method string, request message) (answer message, err error) {
	return answer, p.conn.Invoke(ctx, method, &request, &answer)
}

// schemaCache holds answers that don't depend on the question, by method.
type schemaCache struct {
	mu       sync.Mutex
	answers  map[string]message
	versions map[string]int64 // of resource types' schemas
}

// schema asks a question that always has the same answer, once.
func (p *plugin) schema(ctx context.Context, method string, request message) (message, error) {
	p.schemas.mu.Lock()
	defer p.schemas.mu.Unlock()
	if answer, ok := p.schemas.answers[method]; ok {
		return answer, nil
	}
	answer, err := p.invoke(ctx, method, request)
	if err != nil {
		return nil, err
	}
	if p.schemas.answers == nil {
		p.schemas.answers = map[string]message{}
	}
	p.schemas.answers[method] = answer
	if strings.HasSuffix(method, "Schema") {
		p.schemas.versions = schemaVersions(answer)
	}
	return answer, nil
}

func (p *plugin) schemaVersion(resourceType string) int64 {
	p.schemas.mu.Lock()
	defer p.schemas.mu.Unlock()
	return p.schemas.versions[resourceType]
}

// configuration is what a provider was configured with, and said to it.
type configuration struct {
	mu              sync.Mutex
	request, answer message
}

// configure passes the first configuration on that is accepted, and gives its
// answer to whoever sends the same. ok is false for a different one.
func (p *plugin) configure(ctx context.Context, method string, request message) (answer message, ok bool, err error) {
	p.config.mu.Lock()
	defer p.config.mu.Unlock()
	if p.config.request != nil {
		return p.config.answer, sameConfiguration(p.config.request, request), nil
	}
	// The process is configured even if the run that asks for it goes away.
	answer, err = p.invoke(context.WithoutCancel(ctx), method, request)
	if err == nil && configured(answer) {
		p.config.request, p.config.answer = request, answer
	}
	return answer, true, err
}
