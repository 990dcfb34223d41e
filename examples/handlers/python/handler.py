"""The projection `departures` of examples/airport as a service in Python: the same events, the same documents."""

import argparse
import sys
from pathlib import Path

import grpc

from kit import Worker, connect, pb

DEFINITION = Path(__file__).resolve().parents[1] / "departures-service.yaml"


# A flight that departs so late is worth an event of its own.
LATE_MINUTES = 120


class Departures:
    """What the events of flights do."""

    def reads(self, event, data):
        return [("routes", (data["origin"], data["dest"]))] if event.type == "flight.scheduled" else []

    def handle(self, event, data, documents, changes):
        getattr(self, event.type.replace("flight.", ""))(data, documents, changes)

    def scheduled(self, data, documents, changes):
        origin, dest = data["origin"], data["dest"]
        flight = {
            name: data[name]
            for name in ["carrier", "number", "tail", "origin", "dest", "scheduled_departure", "distance_miles"]
        }
        flight |= {"label": f"{data['carrier']} {data['number']}", "status": "scheduled"}
        changes.put("flights", data["flight"], flight)
        airport = {"scheduled": 1, "departures": 0, "cancelled": 0, "diverted": 0, "delay_sum": 0}
        changes.add("airports", origin, airport)
        carrier = {"scheduled": 1, "departed": 0, "arrived": 0, "cancelled": 0, "diverted": 0}
        changes.add("carriers", data["carrier"], carrier | {"sum_departure_delay_minutes": 0})
        route = documents[0] or {"origin": origin, "dest": dest, "flights": 0}
        changes.put("routes", (origin, dest), route | {"flights": route["flights"] + 1})
        if data["tail"] is not None:
            changes.add("tails", data["tail"], {"flights": 1})
        changes.add("totals", "all", {"flights": 1, "departed": 0, "arrived": 0, "cancelled": 0, "diverted": 0})

    def departed(self, data, documents, changes):
        delay = data["delay_minutes"]
        changes.merge("flights", data["flight"], {"status": "departed", "departure_delay_minutes": delay})
        changes.add("airports", data["origin"], {"departures": 1, "delay_sum": delay})
        changes.add("carriers", data["carrier"], {"departed": 1, "sum_departure_delay_minutes": delay})
        if delay >= LATE_MINUTES:
            late = {"flight": data["flight"], "delay_minutes": delay}
            changes.emit("flight.late", f"late-{data['origin']}", late)
        changes.add("totals", "all", {"departed": 1})

    def arrived(self, data, documents, changes):
        delay = data["delay_minutes"]
        flight = {"status": "arrived", "arrival_delay_minutes": delay, "air_minutes": data["air_minutes"]}
        changes.merge("flights", data["flight"], flight)
        changes.add("destinations", data["dest"], {"arrivals": 1, "delay_sum": delay})
        changes.add("carriers", data["carrier"], {"arrived": 1})
        changes.add("totals", "all", {"arrived": 1})

    def cancelled(self, data, documents, changes):
        self.ended("cancelled", data, changes)

    def diverted(self, data, documents, changes):
        self.ended("diverted", data, changes)

    def ended(self, status, data, changes):
        changes.merge("flights", data["flight"], {"status": status})
        changes.add("airports", data["origin"], {status: 1})
        changes.add("carriers", data["carrier"], {status: 1})
        changes.add("totals", "all", {status: 1})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--addr", default="127.0.0.1:7400", help="where the node serves gRPC")
    parser.add_argument("--version", type=int, default=2, help="which version of the projection to be")
    parser.add_argument("--worker", default="python-1", help="the worker's own name")
    parser.add_argument("--credits", type=int, default=2048, help="how many events to take at a time")
    options = parser.parse_args()
    definition = DEFINITION.read_text().replace("version: 2", f"version: {options.version}")
    attach = pb.AttachWorker(
        projection="departures",
        version=options.version,
        worker=options.worker,
        credits=options.credits,
        definition=definition,
    )
    try:
        worker = Worker(connect(options.addr), attach)
        print(f"attached to departures version {options.version} as {options.worker}", flush=True)
        worker.work(Departures())
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
