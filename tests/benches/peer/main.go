// The usual design, as a peer for the benchmarks: totals in a map, the whole record written as
// JSON at every transition.
//
// It prints one JSON object: nanoseconds for each operation in memory, and transitions a second with the file written (not synced).
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"sync"
	"time"
)

type tracker struct {
	Current    string           `json:"current,omitempty"`
	Since      time.Time        `json:"since,omitempty"`
	Cumulative map[string]int64 `json:"cumulative,omitempty"`
}

func (t *tracker) record(next string, now time.Time) {
	if t.Cumulative == nil {
		t.Cumulative = make(map[string]int64)
	}
	if t.Current != "" && !t.Since.IsZero() {
		if elapsed := now.Sub(t.Since).Milliseconds(); elapsed > 0 {
			t.Cumulative[t.Current] += elapsed
		}
	}
	t.Current, t.Since = next, now
}

func (t *tracker) snapshot(now time.Time) map[string]int64 {
	out := make(map[string]int64, len(t.Cumulative)+1)
	for phase, ms := range t.Cumulative {
		out[phase] = ms
	}
	if t.Current != "" {
		if elapsed := now.Sub(t.Since).Milliseconds(); elapsed > 0 {
			out[t.Current] += elapsed
		}
	}
	return out
}

type instance struct {
	ID, Name, Image, Hypervisor       string
	CreatedAt                         time.Time
	StartedAt, StoppedAt              *time.Time
	Vcpus                             int
	Size                              int64
	HypervisorPID                     int
	HypervisorBootID                  string
	ProgramStartedAt, GuestAgentReady *time.Time
	Phases                            tracker `json:"phases"`
}

var phases = []string{"created", "initializing", "running", "paused", "shutdown", "standby", "stopped"}

func lived(n int, start time.Time) []*tracker {
	all := make([]*tracker, n)
	for i := range all {
		all[i] = &tracker{}
		for step, phase := range phases {
			all[i].record(phase, start.Add(time.Duration(step*1000+i)*time.Millisecond))
		}
	}
	return all
}

// median of rounds, in nanoseconds for each item
func measure(rounds, items int, work func()) float64 {
	times := make([]float64, rounds)
	for i := range times {
		begin := time.Now()
		work()
		times[i] = float64(time.Since(begin).Nanoseconds()) / float64(items)
	}
	sort.Float64s(times)
	return times[rounds/2]
}

var sink map[string]int64

// save writes the record as the usual way does: in place, or aside and renamed. Neither syncs.
func save(dir string, text []byte, inPlace bool) error {
	path := filepath.Join(dir, "metadata.json")
	if inPlace {
		return os.WriteFile(path, text, 0o644)
	}
	aside, err := os.CreateTemp(dir, "metadata-*")
	if err != nil {
		return err
	}
	if _, err = aside.Write(text); err != nil {
		return err
	}
	if err = aside.Close(); err != nil {
		return err
	}
	return os.Rename(aside.Name(), path)
}

func transitions(folder string, instances int, length time.Duration, inPlace bool) float64 {
	var group sync.WaitGroup
	counts := make([]int, instances)
	stop := time.Now().Add(length)
	for i := 0; i < instances; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			now := time.Now()
			vm := instance{ID: fmt.Sprintf("instance-%06d", i), Name: fmt.Sprintf("vm-%d", i), Image: "debian",
				Hypervisor: "qemu", CreatedAt: now, StartedAt: &now, Vcpus: 1, Size: 128 << 20, HypervisorPID: 1000 + i,
				HypervisorBootID: "6f2c9b1e-9d1b-4c55-8c2e-2c1a3e5f7a10"}
			dir := filepath.Join(folder, vm.ID)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				panic(err)
			}
			for n := 0; time.Now().Before(stop); n++ {
				vm.Phases.record(phases[n%len(phases)], time.Now().UTC())
				text, err := json.MarshalIndent(vm, "", "  ")
				if err != nil {
					panic(err)
				}
				if err := save(dir, text, inPlace); err != nil {
					panic(err)
				}
				counts[i]++
			}
		}(i)
	}
	group.Wait()
	total := 0
	for _, count := range counts {
		total += count
	}
	return float64(total) / length.Seconds()
}

func main() {
	folder := flag.String("folder", "", "where to write; nothing is written without it")
	instances := flag.Int("instances", 64, "instances that move at once")
	items := flag.Int("items", 1000, "trackers in memory")
	ms := flag.Int("ms", 2000, "length of the write test in milliseconds")
	inPlace := flag.Bool("in-place", false, "write the record in place instead of aside and renamed")
	flag.Parse()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	all := lived(*items, start)
	now := start.Add(time.Hour)
	out := map[string]any{"version": runtime.Version()}
	out["snapshot_ns"] = measure(60, len(all), func() {
		for _, t := range all {
			sink = t.snapshot(now)
		}
	})
	step := 0
	out["record_ns"] = measure(60, len(all), func() {
		step++
		at := now.Add(time.Duration(step) * time.Millisecond)
		for _, t := range all {
			t.record(phases[step%len(phases)], at)
		}
	})
	if *folder != "" {
		out["transitions_per_second"] = transitions(*folder, *instances, time.Duration(*ms)*time.Millisecond, *inPlace)
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}
