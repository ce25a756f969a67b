// Package browser is Debian's chromium without a window, for tests of pages: it opens one,
// and says what is on it. What it starts ends with the test; whatever fails fails the test,
// on the goroutine of which all is called.
//
// It is not there with the race detector, as the browser shows what a process of its own
// serves: to build all this twice would take a test run longer. It imports testing,
// proctest and chromedp.
package browser
