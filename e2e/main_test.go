package e2e

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) != "" {
		fmt.Fprintln(os.Stderr, crewHelper())
		os.Exit(1)
	}
	flag.Parse()
	if err := moreAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := closeEngine(); err != nil {
		fmt.Fprintln(os.Stderr, "remove what was left with Docker:", err)
		code = max(code, 1)
	}
	if err := removeBuilt(); err != nil {
		fmt.Fprintln(os.Stderr, "remove the programs:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left by the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// moreAtOnce lets more tests run side by side than there are cores, unless -parallel
// says how many: most of the time they wait for what they have broken to mend.
func moreAtOnce() error {
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if said {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)*3/2))
}
