// Package refill is to measure a refill.
package refill
