"""Schedules of a fleet in virtual time; ``make schedules`` goes on for as long as one likes."""

from hypothesis import HealthCheck, settings

from tests.simulation.machine import FleetMachine

FleetMachine.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestFleet = FleetMachine.TestCase
