/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The records that leave the kernel, and the counters that it keeps: the only header that both sides share.
 * Its mirror in user space is autoinstr/capture/abi.py; tests/bpf holds sizes and offsets together.
 *
 * Every ring carries records of one fixed size, so that user space can view it as an array.
 */
#ifndef AUTOINSTR_EVENTS_H
#define AUTOINSTR_EVENTS_H

/* Head of a request that is kept: request line, Host and most other fields of a typical request fit. */
#define HEAD_SIZE 256
/* A traceparent that lies beyond the kept head takes the place of its last bytes, from here. */
#define TRACEPARENT_SLOT 192
#define TRACEPARENT_SIZE 55

enum role { ROLE_UNKNOWN = 0, ROLE_SERVER = 2, ROLE_CLIENT = 3 }; /* the numbers are OTLP's SpanKind */
enum protocol { PROTOCOL_HTTP1 = 1, PROTOCOL_HTTP2 = 2 };
enum family { FAMILY_NONE = 0, FAMILY_INET = 4, FAMILY_INET6 = 6, FAMILY_UNIX = 1 };

/* Why an exchange has no complete response; errno values of the socket are in `error` as they are. */
enum error {
	ERROR_NONE = 0,
	ERROR_NO_RESPONSE = 1001, /* connection ended before the first byte of a response */
	ERROR_TRUNCATED = 1002,   /* connection ended in the middle of the response */
	ERROR_HTTP2 = 1100,       /* and above: the stream was reset, with error code `error - ERROR_HTTP2` (RFC 9113, 7) */
};

/* A request's place in a trace. Ids as their bytes are written; 0: none was given, or none is known. */
struct trace {
	__u64 id[2];
	__u64 span;
	__u64 parent; /* span of the request that this one is made for */
	__u32 peer;   /* pid of the target at the other end */
	__u32 flags;  /* TRACE_* */
};

#define TRACE_SAMPLED 1 /* W3C trace context: who began the trace keeps it */
#define TRACE_DECIDED 2 /* whoever began the trace has decided on that; else TRACE_SAMPLED means nothing */
#define TRACE_PEER 4    /* the parent is the call of the process at the other end, on this machine */
#define TRACE_INSIDE 8  /* the parent is a request that this process serves */
#define TRACE_OWN 16    /* a client's head brings trace context that the program has made itself */
#define TRACE_KEPT 32   /* trace context in the head says nothing more */
#define TRACE_USED 64   /* others have it as their parent */

/* Why a request has no parent, if it has none: bits 8 to 11 of the flags. */
#define TRACE_ORPHAN_SHIFT 8
#define TRACE_ORPHAN_MASK (15 << TRACE_ORPHAN_SHIFT)
/* Of a request that is served: over which connection of HTTP/2 a call was made for it; 0: none. */
#define TRACE_CALLED_SHIFT 12
#define TRACE_CALLED_MASK (255 << TRACE_CALLED_SHIFT)
#define TRACE_CALLED_SEVERAL 1
enum orphan {
	ORPHAN_UNPLACED,      /* it was not looked for */
	ORPHAN_ELSEWHERE,     /* served: no target was seen to ask */
	ORPHAN_CALLER_UNSURE, /* served: a target has asked, but with which of its calls is not certain */
	ORPHAN_NOBODY,        /* a call of a thread, goroutine or task that serves nothing that is known */
	ORPHAN_SEVERAL,       /* a call that several requests may have asked for */
	ORPHAN_ANSWERED,      /* a call of one that has answered what it served last */
	ORPHAN_SHARED,        /* a call over HTTP/2, by one that writes whatever others have left there */
	ORPHAN_TURN,          /* a call of an event loop that was at something else than what it had read */
};

/* One request and its response. */
struct exchange {
	__u64 connection;     /* inode of the socket: as in /proc/<pid>/fd */
	__u64 request_start;  /* ns, CLOCK_MONOTONIC: first byte of the request */
	__u64 request_end;    /* last byte of the request; 0: not seen */
	__u64 response_start; /* first byte of the response; 0: none came */
	__u64 response_end;   /* last byte of the response, or the end of the connection */
	__u64 request_body;   /* bytes of payload */
	__u64 response_body;
	struct trace trace;
	__u64 name;           /* key in `names` of what the program itself calls the request; 0: none */
	__u32 pid;            /* tgid, in the agent's PID namespace */
	__u32 tid;            /* thread that read (server) or wrote (client) the first byte of the request */
	__u32 sequence;       /* nth request of the connection, from 0 */
	__u16 status;         /* 0: no response */
	__u16 head_size;      /* valid bytes in head, at most HEAD_SIZE */
	__u8 protocol;        /* enum protocol */
	__u8 role;            /* enum role */
	__u8 family;          /* enum family */
	__u8 flags;           /* EXCHANGE_* */
	__u16 local_port;     /* host byte order */
	__u16 remote_port;
	__u8 local[16];       /* IPv4 as ::ffff:a.b.c.d */
	__u8 remote[16];
	__u32 fd;
	__u16 error;          /* errno or enum error; 0: a complete response came */
	__u16 traceparent;    /* offset in head of the 55 bytes of its value; 0: none */
	__u8 head[HEAD_SIZE];
};

#define EXCHANGE_HEAD_CUT 1   /* the request's head was longer than what is kept */
#define EXCHANGE_BODY_ABOUT 2 /* a body's size is not exact */
#define EXCHANGE_TLS 4        /* it came over TLS */

_Static_assert(sizeof(struct exchange) == 424, "mirror in capture/abi.py");

/*
 * HTTP/2: a stream is told part by part, as exchanges whose head is this. Header blocks leave as they come, in the order
 * of each direction of a connection, which is that of its HPACK table; a block that is long, or came in several reads, in
 * several parts. What ends a stream carries HTTP2_ENDED; then all other fields of the exchange are final. Before that
 * only those of the connection are valid, and pid, tid, fd and request_start where the stream is known.
 */
#define HTTP2_FRAGMENT 224

struct http2_part {
	__u64 id;     /* of the connection: no other one has it, had it or will have it */
	__u32 stream; /* 0: none, the part is for the table alone */
	__u32 number; /* HTTP2_FIELDS: nth such part of this direction of the connection, from 0; a gap: the ring was full */
	__u32 request_frames; /* HTTP2_ENDED: DATA frames of the request */
	__u32 response_frames;
	__u16 size;   /* HTTP2_FIELDS: valid bytes in fragment */
	__u16 flags;  /* HTTP2_* */
	__u32 unused;
	__u8 fragment[HTTP2_FRAGMENT]; /* of a header block (RFC 7541), without padding and priority */
};

#define HTTP2_REQUEST 1     /* the fragment is of what the client sends; else of what the server sends */
#define HTTP2_FIRST 2       /* a header block begins with it */
#define HTTP2_LAST 4        /* a header block ends with it */
#define HTTP2_PROMISE 8     /* of a PUSH_PROMISE: for the table only */
#define HTTP2_ENDED 16      /* the stream is over */
#define HTTP2_MESSAGES 32   /* HTTP2_ENDED: the request's body begins like a gRPC message */
#define HTTP2_TABLE_OLD 64  /* the connection is older than the agent: what its tables held then is not known */
#define HTTP2_FIELDS 256    /* a part of a header block: the fragment is valid */
#define HTTP2_TABLE 512     /* the fragment is a struct http2_entry, and `number` the part before which the table held it */
#define HTTP2_JOINED 1024   /* the fragment is two blocks of a response, end to end; the first changes no table */
#define HTTP2_UPGRADED 128  /* the stream's request came as HTTP/1, which asked for an upgrade to h2c */

_Static_assert(sizeof(struct http2_part) == HEAD_SIZE, "it is the head of an exchange");

/* One entry of a table of header fields, as a library has it; the oldest comes first. */
#define HTTP2_NAME 56
#define HTTP2_VALUE 160
struct http2_entry {
	__u16 left;       /* entries that are to come */
	__u16 of;         /* all of them; 0: the table is empty */
	__u16 name_size;  /* 0: the entry is too long to be told */
	__u16 value_size;
	__u8 name[HTTP2_NAME];
	__u8 value[HTTP2_VALUE];
};

_Static_assert(sizeof(struct http2_entry) == HTTP2_FRAGMENT, "it takes the place of a fragment");

/* A process was born, changed its program, ended, began to listen on a port that is asked for, or mapped code. */
enum process_kind { PROCESS_FORK = 1, PROCESS_EXEC = 2, PROCESS_EXIT = 3, PROCESS_LISTEN = 4, PROCESS_MAP = 5 };

#define PROCESS_FILENAME_SIZE 128
#define PROCESS_ARGS_SIZE 360

struct process {
	__u64 time;
	__u32 kind; /* enum process_kind */
	__u32 pid;
	__u32 parent;
	__u16 port; /* PROCESS_LISTEN */
	__u16 args_size;
	__u8 filename[PROCESS_FILENAME_SIZE]; /* PROCESS_EXEC: as given to execve, NUL-terminated */
	__u8 args[PROCESS_ARGS_SIZE];         /* PROCESS_EXEC: the first arguments, NUL between them */
};

_Static_assert(sizeof(struct process) == 512, "mirror in capture/abi.py");

/* What a program itself calls a request, in `names` by the key that exchanges have; read by user space when it is new. */
#define NAME_SIZE 192
enum name_kind {
	NAME_PATTERN = 1, /* of Go's net/http: "[METHOD ][HOST]/[PATH]" */
	NAME_ROUTE = 2,   /* the template of a path */
	NAME_CHI = 3,     /* such templates of routers within routers, end to end */
	NAME_RPC = 4,     /* a method's path: "/package.Service/Method" */
};

struct name {
	__u16 size; /* valid bytes in text; written last */
	__u8 kind;  /* enum name_kind */
	__u8 cut;   /* there was no room for all of it */
	__u8 text[NAME_SIZE];
	__u8 slack[NAME_SIZE];
};

_Static_assert(sizeof(struct name) == 388, "mirror in capture/abi.py");

/* What the kernel side counts. Only ever increases. */
enum counter {
	COUNT_EXCHANGES,        /* exchanges told, by record or by aggregate */
	COUNT_RING_FULL,        /* exchanges that went into the aggregate, since the ring was full */
	COUNT_AGGREGATE_FULL,   /* of those: exchanges that the aggregate could not tell apart either */
	COUNT_PROCESS_RING_FULL,
	COUNT_ORPHAN_RESPONSE,  /* a response whose request was not seen: it began before us */
	COUNT_LOST_SYNC,        /* connections on which the message boundaries were lost */
	COUNT_PIPELINE_FULL,    /* pipelined requests that found no room */
	COUNT_UNREADABLE,       /* user memory could not be read */
	COUNT_CONNECTIONS,      /* connections tracked since the start */
	COUNT_STEPS_EXHAUSTED,  /* one call carried more messages or chunks than a run may look at */
	COUNT_TLS_CALL_LOST,    /* a call of a TLS library ended whose beginning was not seen */
	COUNT_STREAM_LOST,      /* HTTP/2 streams that found no room, or lost it */
	COUNT_MAX = 16,
};

/* Aggregate of exchanges for which the ring had no room. */
#define DURATION_BUCKETS 16
#define SIZE_BUCKETS 11

struct overflow_key {
	__u32 pid;
	__u32 method; /* its first four bytes; of HTTP/2 "gRPC" where bodies begin like its messages, else 0: not known */
	__u16 status; /* 0: no response; of HTTP/2: not known */
	__u8 role;
	__u8 protocol;
};

struct overflow {
	__u64 count;
	__u64 duration_sum; /* ns */
	__u64 request_sum;  /* bytes */
	__u64 response_sum;
	__u64 duration[DURATION_BUCKETS];
	__u64 request[SIZE_BUCKETS];
	__u64 response[SIZE_BUCKETS];
};

#endif
