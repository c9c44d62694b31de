// The conformance suite of network-policy-api, as upstream runs it, with two things besides: some tests can be run without the others, which
// the report then says, and each test's outcome is told when it is there.
package conformance

import (
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/yaml"

	policies "sigs.k8s.io/network-policy-api/apis/v1beta1"
	"sigs.k8s.io/network-policy-api/conformance/tests"
	"sigs.k8s.io/network-policy-api/conformance/utils/flags"
	"sigs.k8s.io/network-policy-api/conformance/utils/suite"
)

var (
	onlyTests = flag.String("only-tests", "", "Regular expression for the names of tests that are run")
	outcomes  = flag.String("outcomes", "", "File that is told each test's outcome, one JSON object a line")
)

// outcome is a line of that file.
type outcome struct {
	Name    string  `json:"name"`
	State   string  `json:"state"`
	Seconds float64 `json:"seconds"`
}

func TestConformance(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	only, err := regexp.Compile(*onlyTests)
	must(err)
	cfg, err := config.GetConfig()
	must(err)
	c, err := client.New(cfg, client.Options{})
	must(err)
	must(policies.Install(c.Scheme()))
	must(apiextensions.AddToScheme(c.Scheme()))
	clientSet, err := kubernetes.NewForConfig(cfg)
	must(err)
	implementation, err := suite.ParseImplementation(*flags.ImplementationOrganization, *flags.ImplementationProject,
		*flags.ImplementationURL, *flags.ImplementationVersion, *flags.ImplementationContact, *flags.ImplementationAdditionalInformation)
	must(err)

	profiles, err := suite.NewConformanceProfileTestSuite(suite.ConformanceProfileOptions{
		Options: suite.Options{
			Client:                     c,
			ClientSet:                  clientSet,
			KubeConfig:                 *cfg,
			Debug:                      *flags.ShowDebug,
			CleanupBaseResources:       *flags.CleanupBaseResources,
			EnableAllSupportedFeatures: true,
			SkipTests:                  others(tests.ConformanceTests, only),
		},
		Implementation:      *implementation,
		ConformanceProfiles: suite.ParseConformanceProfiles(string(suite.CNPConformanceProfileName)),
	})
	must(err)
	profiles.Setup(t)
	must(profiles.Run(t, told(tests.ConformanceTests)))
	report, err := profiles.Report()
	must(err)
	text, err := yaml.Marshal(report)
	must(err)
	must(os.WriteFile(*flags.ReportOutput, text, 0o644))
}

// others returns the names that do not match: a test that "go test" left out would count as passed.
func others(all []suite.ConformanceTest, only *regexp.Regexp) (names []string) {
	for _, test := range all {
		if !only.MatchString(test.ShortName) {
			names = append(names, test.ShortName)
		}
	}
	return names
}

// told returns the tests, each of which tells its outcome when it ends.
func told(all []suite.ConformanceTest) []suite.ConformanceTest {
	file := os.Stdout
	if *outcomes != "" {
		opened, err := os.OpenFile(*outcomes, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			panic(err)
		}
		file = opened
	}
	var mutex sync.Mutex
	result := make([]suite.ConformanceTest, len(all))
	for i, test := range all {
		run, name := test.Test, test.ShortName
		test.Test = func(t *testing.T, s *suite.ConformanceTestSuite) {
			started := time.Now()
			t.Cleanup(func() {
				state := "passed"
				if t.Failed() {
					state = "failed"
				}
				mutex.Lock()
				defer mutex.Unlock()
				_ = json.NewEncoder(file).Encode(outcome{name, state, time.Since(started).Seconds()})
			})
			run(t, s)
		}
		result[i] = test
	}
	return result
}
