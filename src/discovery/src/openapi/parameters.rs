//! The request parameters of every kind of operation.
//!
//! Names, types and the names of OpenAPI v2's shared parameters are upstream's; descriptions are our own.

/// One parameter of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub type_name: &'static str,
    /// The suffix of its shared definition in an OpenAPI v2 document; empty: written out.
    pub shared: &'static str,
    pub description: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Path,
    Query,
}

const fn query(
    name: &'static str,
    type_name: &'static str,
    shared: &'static str,
    description: &'static str,
) -> Parameter {
    Parameter {
        name,
        place: Place::Query,
        type_name,
        shared,
        description,
    }
}

const fn path(name: &'static str, shared: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        place: Place::Path,
        type_name: "string",
        shared,
        description,
    }
}

pub(super) const NAME: Parameter = path("name", "", "name of the object");
pub(super) const NAMESPACE: Parameter = path("namespace", "vgWSWtn3", "namespace of the object");
pub(super) const PROXY_PATH: Parameter = path("path", "z6Ciiujn", "path below the proxied address");
pub(super) const PRETTY: Parameter = query("pretty", "string", "tJGM1-ng", "\"true\" indents the answer");

const DRY_RUN: Parameter = query(
    "dryRun",
    "string",
    "",
    "\"All\" does everything except storing the change",
);
const FIELD_MANAGER: Parameter = query(
    "fieldManager",
    "string",
    "Qy4HdaTW",
    "who makes the change, for managedFields",
);
const PATCH_MANAGER: Parameter = query(
    "fieldManager",
    "string",
    "7c6nTn1T",
    "who makes the change, for managedFields; required for apply",
);
const FIELD_VALIDATION: Parameter = query(
    "fieldValidation",
    "string",
    "",
    "what to do about unknown and duplicate fields: Ignore, Warn or Strict",
);
const FORCE: Parameter = query(
    "force",
    "boolean",
    "tOGGb0Yi",
    "take over fields that other managers own; for apply only",
);
const RESOURCE_VERSION: Parameter = query(
    "resourceVersion",
    "string",
    "5WAnf1kx",
    "how recent the data must be; unset means the latest",
);
const CONTINUE: Parameter = query(
    "continue",
    "string",
    "QfD61s0i",
    "token of the next page, from the list before",
);
const FIELD_SELECTOR: Parameter = query(
    "fieldSelector",
    "string",
    "xIcQKXFG",
    "only objects with these field values",
);
const LABEL_SELECTOR: Parameter = query("labelSelector", "string", "5Zw57w4C", "only objects with these labels");
const LIMIT: Parameter = query("limit", "integer", "1NfNmdNH", "how many objects a page has at most");
const VERSION_MATCH: Parameter = query(
    "resourceVersionMatch",
    "string",
    "t8XhRHeC",
    "how resourceVersion is meant: Exact or NotOlderThan",
);
const SEND_INITIAL: Parameter = query(
    "sendInitialEvents",
    "boolean",
    "rLXlEK_k",
    "begin a watch with what exists, then a bookmark",
);
const SHARD: Parameter = query("shardSelector", "string", "Kgyki_3_", "only objects of one shard");
const TIMEOUT: Parameter = query(
    "timeoutSeconds",
    "integer",
    "yvYezaOC",
    "how long a list or watch may take",
);
const BOOKMARKS: Parameter = query(
    "allowWatchBookmarks",
    "boolean",
    "HC2hJt-J",
    "send BOOKMARK events that tell how far a watch is",
);
const WATCH: Parameter = query("watch", "boolean", "XNNPZGbK", "stream changes instead of listing");
const GRACE: Parameter = query(
    "gracePeriodSeconds",
    "integer",
    "-K5HaBOS",
    "how long an object may take to end",
);
const IGNORE_READ: Parameter = query(
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "boolean",
    "QbNkfIqj",
    "delete an object that cannot be read",
);
const ORPHAN: Parameter = query(
    "orphanDependents",
    "boolean",
    "uRB25kX5",
    "deprecated: use propagationPolicy",
);
const PROPAGATION: Parameter = query(
    "propagationPolicy",
    "string",
    "6jk3prlO",
    "what becomes of dependents: Orphan, Background or Foreground",
);

pub(super) const LIST: &[Parameter] = &[
    BOOKMARKS,
    CONTINUE,
    FIELD_SELECTOR,
    LABEL_SELECTOR,
    LIMIT,
    RESOURCE_VERSION,
    VERSION_MATCH,
    SEND_INITIAL,
    SHARD,
    TIMEOUT,
    WATCH,
];
pub(super) const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
pub(super) const PATCH: &[Parameter] = &[DRY_RUN, PATCH_MANAGER, FIELD_VALIDATION, FORCE];
pub(super) const DELETE: &[Parameter] = &[DRY_RUN, GRACE, IGNORE_READ, ORPHAN, PROPAGATION];
pub(super) const DELETE_COLLECTION: &[Parameter] = &[
    CONTINUE,
    DRY_RUN,
    FIELD_SELECTOR,
    GRACE,
    IGNORE_READ,
    LABEL_SELECTOR,
    LIMIT,
    ORPHAN,
    PROPAGATION,
    RESOURCE_VERSION,
    VERSION_MATCH,
    SEND_INITIAL,
    SHARD,
    TIMEOUT,
];
/// COMPAT: what apiextensions declares for reading a custom object.
pub(super) const READ_CUSTOM: &[Parameter] = &[RESOURCE_VERSION];

/// The options of a connect subresource, by the kind its discovery entry names.
pub(super) fn connect(options_kind: &str) -> &'static [Parameter] {
    match options_kind {
        "PodAttachOptions" => {
            const {
                &[
                    query("container", "string", "_Q-EJ3nR", "container to attach to"),
                    query("stderr", "boolean", "26jJhFUR", "pass standard error on"),
                    query("stdin", "boolean", "sEFnN3IS", "pass standard input on"),
                    query("stdout", "boolean", "005YMKE6", "pass standard output on"),
                    query("tty", "boolean", "g7MlET_l", "allocate a terminal"),
                ]
            }
        }
        "PodExecOptions" => {
            const {
                &[
                    query(
                        "command",
                        "string",
                        "Py3eQybp",
                        "command and arguments, without a shell",
                    ),
                    query("container", "string", "i5dOmRiM", "container to run in"),
                    query("stderr", "boolean", "W_1TNlWc", "pass standard error on"),
                    query("stdin", "boolean", "PSzNhyUC", "pass standard input on"),
                    query("stdout", "boolean", "-EZLRwV1", "pass standard output on"),
                    query("tty", "boolean", "s0flW37O", "allocate a terminal"),
                ]
            }
        }
        "PodPortForwardOptions" => const { &[query("ports", "integer", "91KROJmm", "ports to forward")] },
        "PodProxyOptions" => const { &[query("path", "string", "oPbzgLUj", "path of the pod")] },
        "ServiceProxyOptions" => {
            const {
                &[query(
                    "path",
                    "string",
                    "QCf0eosM",
                    "path of the service, with its port",
                )]
            }
        }
        "NodeProxyOptions" => const { &[query("path", "string", "rFDtV0x9", "path of the node's agent")] },
        _ => &[],
    }
}

pub(super) const LOG: &[Parameter] = &[
    query("container", "string", "1GeXxFDC", "container whose log to read"),
    query("follow", "boolean", "9OIXh_2R", "go on as the log grows"),
    query(
        "insecureSkipTLSVerifyBackend",
        "boolean",
        "gM00jVbe",
        "do not verify the node's certificate",
    ),
    query("limitBytes", "integer", "zwd1RXuc", "how many bytes at most"),
    query("previous", "boolean", "1jxDPu3y", "the log of the container before"),
    query("sinceSeconds", "integer", "vE2NLdnP", "only what is newer than this"),
    query("stream", "string", "l-48cgXv", "All, Stdout or Stderr"),
    query("tailLines", "integer", "9xQLWHMV", "only the last lines"),
    query("timestamps", "boolean", "c17fW1w_", "begin lines with a time"),
];

/// The shared body parameters of OpenAPI v2.
pub(super) const PATCH_BODY: &str = "body-78PwaGsr";
pub(super) const DELETE_BODY: &str = "body-2Y1dVQaQ";
