// Package vm gives tests real virtual machines: a libvirtd of the test's own, and
// small Linux guests for it. QEMU emulates them (TCG): no test relies on hardware
// virtualisation.
//
//	l := vm.Start(t)
//	image := vm.Guest(t, "ppc64le")
//	l.Virsh("list", "--all")
package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// startTimeout is how long libvirtd may take to start on a busy machine.
const startTimeout = time.Minute

// Libvirt is a running libvirtd.
type Libvirt struct {
	// URI is what clients on this machine connect to.
	URI string
	// Pool is the name of a storage pool of the kind "dir".
	Pool string
	// Images is the directory of that pool.
	Images string

	t    testing.TB
	dir  string
	user bool // session mode
}

// Start runs libvirtd until the test ends. Several test processes can each have one:
// as root it gets namespaces for mounts and processes, in which libvirt's directories
// are private, and all that it has started ends with it, also when the test process
// is killed. Guests use the machine's network, and see its files. As another user it
// runs in session mode, in such namespaces where the system lets users make them;
// otherwise guests are ended one by one, and survive a test process that is killed.
//
// Where libvirt is not installed the test is skipped as [brokertest.NeedProgram] does.
func Start(t testing.TB) *Libvirt {
	t.Helper()
	return start(t, "")
}

// StartNetworks is [Start] with a network of libvirtd's own besides: it can make
// virtual networks and bridges that nobody else sees. Nothing outside reaches its
// guests. It takes root; other users' tests are skipped.
func StartNetworks(t testing.TB) *Libvirt {
	t.Helper()
	for _, program := range []string{"dnsmasq", "iptables", "ip"} {
		brokertest.NeedProgram(t, program)
	}
	if os.Getuid() != 0 {
		brokertest.Skip(t, "only root's libvirtd makes networks: this test needs root")
	}
	return start(t, "networks")
}

func start(t testing.TB, networks string) *Libvirt {
	t.Helper()
	libvirtd := brokertest.NeedProgram(t, "libvirtd")
	brokertest.NeedProgram(t, "virsh")
	dir, err := os.MkdirTemp("", "lv-") //nolint:usetesting // a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	l := &Libvirt{t: t, Pool: "default", Images: filepath.Join(dir, "images"), dir: dir, user: os.Getuid() != 0}
	var cmd *exec.Cmd
	if l.user {
		cmd = l.session(libvirtd)
	} else {
		cmd = l.system(libvirtd, networks)
	}
	l.run(cmd)
	l.Virsh("pool-define-as", l.Pool, "dir", "--target", l.Images)
	l.Virsh("pool-build", l.Pool)
	l.Virsh("pool-start", l.Pool)
	return l
}

// qemuConf makes QEMU run without what a test machine lacks: security drivers,
// virtlogd, cgroups.
const qemuConf = `security_driver = "none"
stdio_handler = "file"
remember_owner = 0
namespaces = []
cgroup_controllers = []
`

// capabilities gives the directory where libvirtd keeps what it has asked QEMU's
// programs: all tests share it, since asking takes seconds. It checks by itself
// whether the programs are still the same.
func (l *Libvirt) capabilities() string {
	l.t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		l.t.Fatal(err)
	}
	dir := filepath.Join(cache, "duffy-broker-test", "capabilities")
	l.mkdir(dir)
	return dir
}

// system prepares a libvirtd of root's; networks is not empty if it gets a network
// of its own.
func (l *Libvirt) system(libvirtd, networks string) *exec.Cmd {
	l.t.Helper()
	l.URI = "qemu+unix:///system?socket=" + l.dir + "/sock/libvirt-sock"
	for _, name := range []string{"run", "lib", "log", "cache/qemu/capabilities", "etc", "sock"} {
		l.mkdir(filepath.Join(l.dir, name))
	}
	l.write("etc/qemu.conf", qemuConf+"user = \"root\"\ngroup = \"root\"\n")
	l.write("etc/libvirtd.conf", fmt.Sprintf("unix_sock_dir = %q\nauth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\nlog_outputs = \"2:file:%s/libvirtd.log\"\n", l.dir+"/sock", l.dir))
	// The shell stays: as the first process of the namespace it takes in the QEMU
	// processes that end, which libvirtd would not.
	script := `set -e
mount --make-rprivate /
mount -t proc proc /proc
[ -z "$3" ] || { mount -t sysfs sysfs /sys && ip link set lo up; } # it shows the namespace's network
mkdir -p /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /etc/libvirt
mount --bind "$1/run" /run
mount --bind "$1/lib" /var/lib/libvirt
mount --bind "$1/log" /var/log/libvirt
mount --bind "$1/cache" /var/cache/libvirt
mount --bind "$4" /var/cache/libvirt/qemu/capabilities
mount --bind "$1/etc" /etc/libvirt
set +e
"$2" --config /etc/libvirt/libvirtd.conf --pid-file "$1/pid" &
wait $!`
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", script, "sh", l.dir, libvirtd, networks, l.capabilities()) //nolint:gosec // ours
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if networks != "" {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
	return cmd
}

// session prepares a libvirtd of an ordinary user's.
func (l *Libvirt) session(libvirtd string) *exec.Cmd {
	l.t.Helper()
	l.URI = "qemu+unix:///session?socket=" + l.dir + "/run/libvirt/libvirt-sock"
	for _, name := range []string{"run", "config/libvirt", "cache", "data"} {
		l.mkdir(filepath.Join(l.dir, name))
	}
	l.write("config/libvirt/qemu.conf", qemuConf)
	l.write("config/libvirt/libvirtd.conf", fmt.Sprintf("log_outputs = \"2:file:%s/libvirtd.log\"\n", l.dir))
	script := `mount -t proc proc /proc 2>/dev/null
"$2" --config "$1/config/libvirt/libvirtd.conf" --pid-file "$1/pid" &
wait $!`
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", script, "sh", l.dir, libvirtd) //nolint:gosec // ours
	cmd.Env = append(os.Environ(), "HOME="+l.dir, "XDG_RUNTIME_DIR="+l.dir+"/run", "XDG_CONFIG_HOME="+l.dir+"/config", "XDG_CACHE_HOME="+l.dir+"/cache", "XDG_DATA_HOME="+l.dir+"/data")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if userNamespaces() {
		const mountProc = 21 // CAP_SYS_ADMIN, within the namespace
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{mountProc}
	}
	return cmd
}

// userNamespaces tells whether an ordinary user can make namespaces here.
func userNamespaces() bool {
	return exec.CommandContext(context.Background(), "unshare", "--user", "--mount", "--pid", "--fork", "--map-root-user", "--mount-proc", "true").Run() == nil
}

// run starts libvirtd and waits until it answers.
func (l *Libvirt) run(cmd *exec.Cmd) {
	l.t.Helper()
	out, err := os.Create(filepath.Join(l.dir, "out"))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = out.Close() })
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		l.t.Fatalf("start libvirtd: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed in the end
		close(ended)
	}()
	l.t.Cleanup(func() {
		if cmd.SysProcAttr.Cloneflags == 0 {
			l.endAll()
		}
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		if l.t.Failed() {
			l.t.Logf("libvirtd said:\n%s", l.said())
		}
	})
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		_, err := l.TryVirsh("uri")
		if err == nil {
			return
		}
		select {
		case <-ended:
			l.t.Fatalf("libvirtd ended:\n%s", l.said())
		default:
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("libvirtd does not answer: %v\n%s", err, l.said())
		}
	}
}

// said is what libvirtd has printed and logged, but for what it misses on machines
// without a message bus.
func (l *Libvirt) said() string {
	var b strings.Builder
	for _, name := range []string{"out", "libvirtd.log"} {
		text, _ := os.ReadFile(filepath.Join(l.dir, name)) //nolint:gosec // for messages of failed tests only
		b.Write(text)
	}
	return b.String()
}

// endAll ends libvirtd and its guests where no namespace does.
func (l *Libvirt) endAll() {
	pids, _ := filepath.Glob(filepath.Join(l.dir, "run/libvirt/qemu/run/*.pid"))
	for _, path := range append(pids, filepath.Join(l.dir, "pid")) {
		text, err := os.ReadFile(path) //nolint:gosec // our own directory
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
}

// Virsh runs virsh, which has to succeed, and gives what it prints, without the
// space around it.
func (l *Libvirt) Virsh(args ...string) string {
	l.t.Helper()
	out, err := l.TryVirsh(args...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// TryVirsh is [Libvirt.Virsh] that may fail.
func (l *Libvirt) TryVirsh(args ...string) (string, error) {
	cmd := exec.CommandContext(context.Background(), "virsh", append([]string{"--quiet", "--connect", l.URI}, args...)...) //nolint:gosec // tests name it
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("virsh %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// Domains gives the names of all domains, running or not.
func (l *Libvirt) Domains() []string {
	l.t.Helper()
	return strings.Fields(l.Virsh("list", "--all", "--name"))
}

// Volumes gives the names of the files in [Libvirt.Images].
func (l *Libvirt) Volumes() []string {
	l.t.Helper()
	entries, err := os.ReadDir(l.Images)
	if err != nil {
		l.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (l *Libvirt) mkdir(path string) {
	l.t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		l.t.Fatal(err)
	}
}

func (l *Libvirt) write(name, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}
