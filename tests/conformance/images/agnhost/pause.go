package agnhost

import (
	"fmt"
	"os"
	"time"
)

// stopFile is what appears when a container that asked for it is to end: a guest gets no signal.
const stopFile = "/.vkubelet/stop"

// terminated is agnhost's own status after SIGTERM.
const terminated = 2

// pause waits to be told to end.
func pause([]string) int {
	fmt.Println("Paused")
	return untilStopped()
}

// fakeRegistryServer stands where the registry would be. A module cannot listen: who runs the suite does in its place.
func fakeRegistryServer([]string) int {
	fmt.Println("Not listening")
	return untilStopped()
}

// untilStopped waits for the request to end where there is one, else for ever, and leaves agnhost's message.
func untilStopped() int {
	for {
		if _, err := os.Stat(stopFile); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	message := "exiting because of signal \"terminated\"\n"
	file := os.Getenv("TERMINATION_MESSAGE_PATH")
	if file == "" {
		file = "/dev/termination-log"
	}
	if err := os.WriteFile(file, []byte(message), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	fmt.Print(message)
	return terminated
}
