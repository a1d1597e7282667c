//! Listeners, connections and bodies around the routing table.
