package config

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// What things cost, as measured. README.md has the figures and the reasons.
const (
	perConnection = 100 << 10 // a reserved peer: 38 (tcp) to 70 KiB (quic), and room for its handshake
	perCircuit    = 112 << 10 // two copy buffers, two streams, four goroutines
	ownMemory     = 96 << 20  // the program itself, pubsub, the peerstore
	// Files that libp2p's connections leave alone: 128 for listeners, logs,
	// certificates and outgoing connections, and those that visitors may hold at the
	// other listeners.
	OwnFiles     = 128 + HttpConns + MetricsConns
	HttpConns    = 128
	MetricsConns = 32
	minConns     = 128
	maxConns     = 1 << 16
)

// Capacity is how much this machine carries. The library's own scaling gives a
// machine of 512 MB 64 connections in all, each address 8 of them.
type Capacity struct {
	Memory      int64 // for the process; the smaller of the machine's and the cgroup's
	Files       int
	Connections int
}

func MeasureCapacity(l Limits) Capacity {
	c := Capacity{Memory: availableMemory(), Files: openFileLimit()}
	return c.Derive(l)
}

func (c Capacity) Derive(l Limits) Capacity {
	c.Connections = l.Connections
	if c.Connections == 0 {
		byMemory := (c.Memory*3/4 - ownMemory) / perConnection
		byFiles := int64(c.Files - OwnFiles)
		c.Connections = int(max(minConns, min(byMemory, byFiles, maxConns)))
	}
	return c
}

// Fill puts what was worked out in the place of limits that say 0. Of the
// connections a fifth remains for those who hold no place.
func (c Capacity) Fill(l Limits) Limits {
	l.Connections = c.Connections
	if l.Reservations == 0 {
		l.Reservations = c.Connections * 4 / 5
		l.GuestReservations = min(l.GuestReservations, l.Reservations)
	}
	if l.Circuits == 0 {
		l.Circuits = int(max(minConns, min(c.Memory/4/perCircuit, maxConns)))
		l.GuestCircuits = min(l.GuestCircuits, l.Circuits)
	}
	return l
}

// LimitMemory has the garbage collector run at 40 % of Go's usual allowance, which
// saves 5 (tcp) to 12 KiB (quic) per peer and costs a relay, whose buffers are
// pooled, no CPU that could be measured; and it has it work harder before the
// machine's memory, or the cgroup's, runs out. GOGC and GOMEMLIMIT in the
// environment have precedence.
func LimitMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(availableMemory() * 4 / 5)
	}
}

// availableMemory is what the process may use, as far as can be told.
func availableMemory() int64 {
	var info syscall.Sysinfo_t
	memory := int64(1 << 29)
	if err := syscall.Sysinfo(&info); err == nil {
		memory = int64(info.Totalram) * int64(info.Unit)
	}
	for _, path := range cgroupLimits() {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64); err == nil && n > 0 {
			memory = min(memory, n)
		}
	}
	return memory
}

// cgroupLimits are the files with the memory limits of the process's own cgroup,
// of version 2 and of version 1.
func cgroupLimits() (paths []string) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) { // such as 4:cpu,memory:/system.slice
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		switch {
		case controllers == "":
			dir := filepath.Join("/sys/fs/cgroup", path)
			paths = append(paths, filepath.Join(dir, "memory.max"), filepath.Join(dir, "memory.high"))
		case slices.Contains(strings.Split(controllers, ","), "memory"):
			paths = append(paths, filepath.Join("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
		}
	}
	return paths
}

// openFileLimit is the limit in force; the Go runtime has raised it to the hard one.
func openFileLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return int(min(r.Cur, math.MaxInt32))
}
