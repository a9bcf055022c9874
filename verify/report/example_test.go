package report_test

import (
	"fmt"
	"log"

	"github.com/colophon-build/colophon/verify"
	"github.com/colophon-build/colophon/verify/report"
)

// Write verdicts for a CI system. Each image is a test suite, each link a case.
func ExampleJUnit() {
	v := &verify.Verdict{Image: "registry.example.com/app:v1", Outcome: verify.Rejected, Links: []verify.Link{
		{Name: verify.LinkImage, Status: verify.Holds, Claim: "linux/amd64"},
		{Name: verify.LinkSignature, Status: verify.Absent, Reason: "the image carries no signature"},
		{Name: verify.LinkSource, Status: verify.NotAsked, Reason: "the repository was not asked"},
	}}
	out, err := report.JUnit([]*verify.Verdict{v})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(out))

	// Output:
	// <?xml version="1.0" encoding="UTF-8"?>
	// <testsuites name="colophon verify">
	//   <testsuite name="registry.example.com/app:v1" tests="3" failures="1" errors="0" skipped="1">
	//     <testcase classname="registry.example.com/app:v1" name="image">
	//       <system-out>linux/amd64</system-out>
	//     </testcase>
	//     <testcase classname="registry.example.com/app:v1" name="signature">
	//       <failure message="the image carries no signature"></failure>
	//     </testcase>
	//     <testcase classname="registry.example.com/app:v1" name="source">
	//       <skipped message="the repository was not asked"></skipped>
	//     </testcase>
	//   </testsuite>
	// </testsuites>
}
