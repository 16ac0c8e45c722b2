//! Priority and fairness: seats, bytes, fair queues. Nothing is here yet: the chain limits requests in flight (src/server/src/filters/in_flight.rs).
