/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Every map: what its key and value are, who writes it, what bounds it. Sizes come from the loader (-D). */
#ifndef AUTOINSTR_MAPS_H
#define AUTOINSTR_MAPS_H

/*
 * The key of an array's only entry. New verifiers know that its place on the stack held nothing that still matters only if
 * all eight bytes are written, and else follow ways that differ in nothing else; 5.10's then tells more ways apart.
 */
#ifdef MAY_GOTO
typedef __u64 zero_key;
#else
typedef __u32 zero_key;
#endif

/*
 * One byte a process, by pid: TARGET_* flags. User space writes it through mmap, fork and exit keep it; bounded by
 * PID_MAX_LIMIT. An array of blocks, since an array of bytes would take eight bytes each.
 */
#define PID_LIMIT 4194304
#define PID_BLOCK 64
struct pid_block {
	__u8 flags[PID_BLOCK];
};
BPF_F_TABLE("array", u32, struct pid_block, targets, PID_LIMIT / PID_BLOCK, BPF_F_MMAPABLE);

#define TARGET_WATCHED 1
#define TARGET_CLIENT 2      /* has connected to somewhere: its writes are looked at on entry, too */
#define TARGET_CLOSES 4      /* has Unix sockets, or of Multipath TCP: their end is seen at close() */
#define TARGET_PROVISIONAL 8 /* watched until user space has looked at its new program */
#define TARGET_TLS 16         /* has called a TLS library: its sessions are to be joined with sockets */
#define TARGET_MAPPED 32      /* user space has been told of newly mapped code, and has not looked yet */
#define TARGET_GO 64          /* has called Go's crypto/tls: the same, by goroutine */
#define TARGET_SELF 128      /* the agent */

/* One bit a TCP port: who listens there is a target at once. Written by user space through mmap. */
struct port_block {
	__u64 bits[1024];
};
BPF_F_TABLE("array", u32, struct port_block, ports, 1, BPF_F_MMAPABLE);

/* Records since the reader was last woken for them; of all CPUs, and only about right. */
struct pace {
	__u32 sent;
	__u32 processes;
};
BPF_ARRAY(pace, struct pace, 1);

/* What user space tells the programs, and the agent's place among PID namespaces (written by the `close` marker). */
struct control {
	__u32 watch_exec; /* programs are matched by name: watch every new one until user space has decided */
	__u32 pid_level;  /* depth of the agent's PID namespace */
	__u64 pid_namespace;
	__u32 agent; /* pid of the agent in its own namespace */
	__u32 wake_every; /* exchanges after which the reader is woken */
	__u32 runtimes; /* so often it has put something into `runtimes` */
	__u32 unused;
};
BPF_F_TABLE("array", u32, struct control, control, 1, BPF_F_MMAPABLE);

/*
 * How often programs have put something into these maps (of `runtimes`: or taken it out): as long as there is nothing new,
 * what was found there is, and what was not is not, and need not be looked up once more.
 */
struct made {
	__u32 offers;
	__u32 runtimes;
};
BPF_ARRAY(made, struct made, 1);

/* enum counter; user space reads it through mmap. */
struct counters {
	__u64 values[COUNT_MAX];
};
BPF_F_TABLE("array", u32, struct counters, counters, 1, BPF_F_MMAPABLE);

BPF_RINGBUF_OUTPUT(exchanges, 1); /* the loader gives it its size */
BPF_RINGBUF_OUTPUT(processes, PROCESS_RING_PAGES);

#define SPAN_NEXT 1

/* A request that a target serves, of a connection or of a stream of HTTP/2. It is served as long as its span is there. */
struct served {
	__u64 key;    /* in `connections`; of a stream the id of its connection */
	__u64 span;   /* 0: none; SPAN_NEXT: whatever the connection is to answer next */
	__u32 stream; /* 0: of HTTP/1 */
	__u32 several; /* in `brought`: it is one of several */
};

/* A connection: a socket, or the plaintext of a TLS session. The `slot` is the oldest request that has no complete response yet. */
struct connection {
	struct exchange slot;
	struct framer framers[2]; /* request, response; behind slot.head, so that its copy may be checked loosely */
	__u64 response_start;
	__u64 closed; /* time at which our side ended the stream */
	__u64 other;  /* key of a socket's TLS session, or of a session's socket; 0: none is known */
	__u32 requests;  /* begun */
	__u32 responses; /* complete */
	/*
	 * Bytes and not bits: a request's and a response's thread may be in here at the same time.
	 */
	__u8 role;
	__u8 fresh;     /* seen from its first byte on */
	__u8 ignored;   /* not HTTP/1 (any more) */
	__u8 slot_used; /* set by the request's side, cleared by the response's */
	__u8 piped;     /* the request being read is in `pipelined` (PIPED_YES), or nowhere (PIPED_LOST) */
	__u8 answer;    /* enum answer: what the response being read belongs to */
	__u8 junk;      /* what came first was text, but not a request */
	__u8 guessed;    /* the role is what the first bytes looked like, and may still turn out wrong */
	__u8 guessed_by; /* whether those bytes came in */
	__u8 session;    /* plaintext of a TLS session */
	__u8 secret;     /* TLS records were seen on this socket */
	__u8 late;       /* a TLS session that was there before our probes */
	__u8 http2;      /* its frames are followed, in `http2_connections` */
	__u8 switched;   /* a response with status 101 was its last one */
	__u16 error; /* errno of the socket */
	__u16 misses;
	__u32 entered; /* bytes of the current write that were looked at on its entry */
	/* as it was before that write */
	struct framer before;
	__u32 requests_before, responses_before;
	__u8 slot_before, piped_before;
	__u32 unasked; /* made.offers, and one, when there was no list for it */
	__u64 pair; /* of TCP: the two initial sequence numbers, the client's first, by which both ends know it; 0: not known */
	struct served origin; /* what a client's connection was last used for */
	__u8 turn;  /* of the event loop, in which a request was read last */
	__u8 asked; /* that, or what its next request will be for; of HTTP/2: who makes a call leaves that in `asked_streams` */
	__u16 reader; /* last bits of the event loop's thread that has read a request; 0: it was none */
	__u32 began;  /* TCP's number of the first byte of the request that is read, where trace contexts come from other hosts */
};

enum { PIPED_NO, PIPED_YES, PIPED_LOST };
enum answer { ANSWER_NONE, ANSWER_SLOT, ANSWER_LOST, ANSWER_ORPHAN };
enum side { SIDE_REQUEST, SIDE_RESPONSE };

/*
 * By address of the struct sock, which dup, fork and descriptor passing share, and which outlives the struct file until
 * the last byte is acknowledged: inserted at accept, connect or first use, deleted when the kernel destroys it. Least
 * recently used ones go first: an idle connection is found again. TLS sessions are here too, by session_key().
 */
BPF_TABLE("lru_hash", u64, struct connection, connections, MAX_CONNECTIONS);

/*
 * A session's place in `connections`: its address, without bits in which no two sessions differ, and its process. No
 * struct sock is there: addresses of the kernel begin with ones, and no pid does.
 */
#define SESSION_BITS 42
#define SESSION_MASK ((1ULL << SESSION_BITS) - 1)

static __always_inline __u64 session_key(__u32 pid, __u64 session)
{
	return (__u64)pid << SESSION_BITS | (session >> 5 & SESSION_MASK);
}

/* Pipelined requests behind the slot; inserted when a request begins, deleted when its response does. */
struct pipelined_key {
	__u64 sock;
	__u64 sequence;
};
struct pipelined {
	struct exchange exchange;
	__u8 slack[HEAD_SIZE]; /* as in struct connection */
};
BPF_TABLE("lru_hash", struct pipelined_key, struct pipelined, pipelined, MAX_PIPELINED);

/* One direction of an HTTP/2 connection: where in which frame it is. */
struct http2_side {
	__u64 began;     /* time of the first byte of the header block being read */
	__u32 remaining; /* bytes of the frame's payload, behind what is read of its beginning; padding included */
	__u32 stream;    /* of the frame */
	__u32 block;     /* stream of the header block being read; 0: of none that is told */
	__u32 number;    /* parts told that have a fragment */
	__u16 part;      /* HTTP2_* flags of the next part of this block */
	__u8 phase;      /* enum http2_phase */
	__u8 type, flags; /* of the frame */
	__u8 padding;
	__u8 wanted, carried; /* bytes: of the payload to be read with the frame's header, and in carry */
	__u8 open;       /* a header block goes on in the next frame */
	__u8 ends;       /* the stream's side ends with this header block */
	__u8 unsure;     /* where the frame begins is a guess */
	__u8 unused;
	__u8 carry[40];
};

/* Streams of a connection that are told of when it ends: by number, modulo. */
#ifndef HTTP2_PLACES
#define HTTP2_PLACES 128
#endif

struct http2 {
	__u64 id;      /* of the connection, in what is told */
	__u64 entered; /* time at which the current write of a client began; 0: there is none */
	__u64 opened, ended; /* streams */
	__u64 meetings; /* of both sides, at the end of streams */
	struct http2_side sides[2]; /* outgoing, incoming */
	__u32 first, last; /* lowest and highest stream of a request */
	__u32 refused_above; /* GOAWAY: streams above it will not be answered */
	__u16 refused;       /* its error code + ERROR_HTTP2; 0: none came */
	__u8 old;      /* older than the agent: what the tables hold is not known */
	__u8 noted;    /* reads that were kept in `last_reads` */
	__u32 late;   /* a stream that is answered, and whose body may be in the current write */
	__u32 unsent; /* at the end of the connection: streams for which the ring had no room */
	__u64 library; /* a client's session of nghttp2, as in `submitted`; 0: none is known */
	__u64 blurred; /* time at which a call was last written of which it is not certain who made it */
#ifdef PROPAGATE_GO
	__u64 entries; /* of the client's table, of all that were ever in it: those that were looked at */
	__u32 own;     /* one of them is trace context */
	__u32 plain;   /* its calls are not grpc-go's */
#endif
	__u32 places[HTTP2_PLACES]; /* numbers of open streams */
};
/* HTTP/2 connections, by the key of `connections`; least recently used ones go first, and are found again as old ones. */
BPF_TABLE("lru_hash", u64, struct http2, http2_connections, MAX_HTTP2);
BPF_ARRAY(blank_http2, struct http2, 1);

/* A request on an HTTP/2 connection that is not over. Each side writes what is its own: they may run at the same time. */
#if defined(PROPAGATE_HEADERS) || defined(PROPAGATE_GO)
#define PLACES_EARLY
#endif
struct stream_key {
	__u64 id; /* of the connection */
	__u64 stream;
};
struct stream {
	/* as in struct exchange, so that they are copied in one go */
	__u64 request_start, request_end, response_start, response_end;
	__u64 request_body, response_body;
	struct trace trace;
	__u64 name;
	__u32 pid, tid;
	__u32 fd;
	__u16 status; /* of the response, if it is easy to see; else 0 */
	__u16 error;
	__u32 request_frames, response_frames;
	__u8 request; /* enum progress */
	__u8 response;
	__u8 messages; /* the request's body begins like a gRPC message */
	__u8 waits; /* for who makes the call */
	__u8 placed; /* enum placed: a client's that had its place before it was written */
	__u8 added;  /* its header block ends with a field that was added to it before it was written */
	__u8 unused[2];
};
enum placed { PLACED_NOT, PLACED_SURELY, PLACED_PERHAPS };
enum progress { SIDE_WAITS, SIDE_BEGUN, SIDE_ENDED };
BPF_TABLE("lru_hash", struct stream_key, struct stream, streams, MAX_STREAMS);
BPF_ARRAY(blank_stream, struct stream, 1);

/* What is told at the end of a connection, where no work is at hand; one of each copy of the probe. */
struct last_words {
	struct exchange exchange;
	__u32 last; /* the connection ends, too */
	__u32 turns;
};
BPF_PERCPU_ARRAY(last_words, struct last_words, PROBE_COPIES);

/*
 * The agent's own ends of TCP connections, so that who receives its export is not told of it. With both ports: the
 * kernel gives the same local port to connections to other servers, also while ours is open.
 */
struct endpoint {
	__u8 address[16];
	__u32 ports; /* this end's, then the other's */
};
BPF_TABLE("lru_hash", struct endpoint, u8, own_endpoints, 1024);

/* Exchanges that found the ring full, only counted. Never deleted: user space reads differences. */
BPF_HASH(aggregate, struct overflow_key, struct overflow, MAX_AGGREGATES);

/*
 * What programs call requests that they serve (lib/names.h), by a key made of where the text is; inserted by probes, read by
 * user space. Least recently used ones go first, and come again when they are needed.
 */
BPF_TABLE("lru_hash", u64, struct name, names, MAX_NAMES);
BPF_ARRAY(blank_name, struct name, 1);

/*
 * What a thread, goroutine or context of Python (execution_of) serves: who makes calls meanwhile makes them for that.
 * Least recently used ones go first.
 */
struct context {
	struct served now;
	__u64 first; /* span of the first request met since it last waited for several; of a connection's own task the one at work */
	__u32 pid;   /* whose thread it is */
	__u8 loop;   /* it waits for several connections at a time: EVENT_LOOP, TURN_AT_LOOP */
	__u8 mixed;  /* has it met several requests since, and what has it done for the last one: MIXED ... */
	union {
		__u8 lent; /* the thread has it from who created it, while that one served it */
		__u8 spare; /* of a goroutine: ids from `lot` on that its processor had left then */
	};
	union {
		__u8 turn; /* of its event loop: TURN_* */
		__u8 asks; /* a goroutine: it has begun a call of net/http over HTTP/2, or is the one that this has begun to write it */
	};
	union {
		__u64 since;   /* of a goroutine: the last id in any processor's lot when it went on with this */
		/* of a thread of Python, what is done in which is its own: with uvloop the context that it has entered with what it
		   has read, or READ_NOW; the greenlet that waits for several connections */
		__u64 entered;
	};
	union {
		__u64 lot;
		__u64 paused; /* of a thread: the socket that it had nothing to read from, or no room to write to */
	};
	/* of an event loop, in steps of 2^TIME_STEP ns: when it has woken up last, and when its next timer may be due; 0: it has none */
	__u32 woke, due;
};
BPF_TABLE("lru_hash", u64, struct context, contexts, MAX_CONTEXTS);
#define EVENT_LOOP 1
#define TURN_AT_LOOP 2 /* it takes turns with others at that, and itself serves what it has read: nobody leaves anything to it */
#define READ_NOW 1
#define TURN_AT_ONCE 1 /* it began without a wait: somebody was to be woken up */
#define TURN_COUNT(turn) ((__u8)(turn) >> 1) /* how many have begun, modulo 128 */

/* RUNTIME_* of targets, by pid; user space writes it, fork copies it. */
#define RUNTIME_GO 1       /* what is executed are goroutines */
#define RUNTIME_IN_ORDER 2 /* an event loop that acts at once on what it reads, before it reads more */
/* Python, with the distances of autoinstr/libraries/python_layout.py, in words */
#define RUNTIME_PYTHON 4
#define RUNTIME_LOOPS 16 /* event loops, each of which does itself whatever it has read, but maybe after it has read more */
#define RUNTIME_UVLOOP 8 /* Python that may read outside of its contexts, and enters one with what it has read */
#define RUNTIME_STATE(runtime) (((runtime) >> 8 & 1023) * 8)
#define RUNTIME_CONTEXT(runtime) (((runtime) >> 18 & 1023) * 8)
#define RUNTIME_STACK(runtime) (((runtime) >> 32 & 1023) * 8) /* 0: its threads take no turns at greenlets */
#define RUNTIME_LENDS (1 << 28) /* it creates threads while it serves: it has an entry in `lenders` */
#define RUNTIME_SWITCHES (1 << 30) /* its threads go on with other tasks where one has to wait: what they serve is not known */
#define RUNTIME_WOKEN_BIT 31
#define RUNTIME_WOKEN (1ULL << RUNTIME_WOKEN_BIT) /* its threads leave things for its event loops to do */
#define RUNTIME_AFTER (1 << 29) /* tasks that connections have for themselves do things for none of their requests */
BPF_TABLE("lru_hash", u32, u64, runtimes, 4096);

/*
 * Processes that create threads while they serve, by pid. A new thread may be one of a pool, which does what others ask
 * for next; so it counts for its creator only where requests are served one after another.
 */
struct lender {
	struct served newest; /* request that it has read */
	__u32 begun, noted;   /* requests that were read, and those of them that have been the newest: others are read right now */
	__u32 several;        /* it was seen to serve several at a time */
	__u32 unused;
};
BPF_TABLE("lru_hash", u32, struct lender, lenders, 256);

/* The first event loop of a process that has made a call: its thread, by pid. */
BPF_TABLE("lru_hash", u32, u32, loops, 256);

/*
 * Where fields lie in structures of a program built by Go, or of nghttp2, in bytes from the structure's beginning, by pid;
 * written by user space when it has looked at the program. 0: not known, but for stream and state.
 */
struct go_layout {
	__u16 goid, parent;         /* of g: its id, and that of the goroutine that has begun it */
	__u16 client;               /* of net/http's persistConn: conn */
	__u16 server;               /* of its HTTP/2 server: conn of serverConn ... */
	__u16 state, stream, id;    /* ... rws of responseWriter, stream of that, id of that */
	__u16 rpc_server;           /* of grpc-go: conn of http2Server ... */
	__u16 rpc_id, rpc_method;   /* ... id and method of Stream */
	__u16 rpc_client;           /* ... conn of http2Client */
	__u16 rpc_of;               /* ... of a client's stream: its http2Client */
	__u16 rpc_made;             /* where the stream lies at go_new_stream_made, from the stack pointer */
	__u16 rpc_by_pointer;       /* a client's or server's stream does not contain a Stream, but begins with a pointer to it */
	__u16 x_server, x_state, x_stream, x_id; /* as without x, of golang.org/x/net */
	__u16 inflater, deflater;   /* of nghttp2_session: tables of header fields that came, and that went */
	__u16 echo_path;            /* path of echo's context */
	__u16 machine, processor, left; /* of g: its m; of that: its p, and the one that it has left for a system call */
	__s32 last_id;              /* where the last id is kept that was given to a processor, from the program's first code on */
	__u16 ids;                  /* of p: the next id that it gives, and behind it the end of its lot */
	__u16 unused;
};
BPF_TABLE("lru_hash", u32, struct go_layout, go_layouts, 1024);

#ifdef PROPAGATE_GO
/*
 * What has to be known of a program built by Go so that its requests can be given a field (probes/go_propagate.h and
 * go_propagate_http2.h), by pid; written by user space. Instructions and functions by their addresses in the file; 0: not there.
 */
struct go_http2_client {
	__u32 call; /* the instruction that is probed, in a method of the object that writes header blocks */
	__u16 self; /* where that object's address lies by then, from the stack pointer */
	__u16 framer, writer, encoder, conn; /* of the object */
	__u16 unused;
};
struct go_fields {
	__u32 head; /* the instruction that is probed, of HTTP/1 */
	/* Write of bufio's Writer and of net/http's persistConnWriter, Close of net's TCPConn and of crypto/tls's Conn */
	__u32 buffered_write, client_write, tcp_close, tls_close;
	struct go_http2_client h2, x, rpc; /* of net/http, golang.org/x/net, grpc-go */
	__u16 rpc_buffer, rpc_buffered; /* of grpc-go's bufWriter */
	__u16 rpc_by_handle; /* what is there is a pointer to the buffer */
	__u16 client;        /* of net/http's persistConn: conn */
};
BPF_TABLE("lru_hash", u32, struct go_fields, go_fields, 1024);
#endif

/*
 * What one end of a connection leaves for the other, if that is a target, too: a client its call, or a server that has
 * met a request first, since what is written to TLS and HTTP/2 is looked at when it has been written.
 */
struct offer {
	struct trace trace;    /* of the request; peer: pid of who leaves this */
	struct served request; /* where it is */
	__u32 number;          /* of the request on its connection */
	__u8 state;            /* enum offer_state */
	__u8 unused[3];
};
enum offer_state { OFFER_NONE, OFFER_CALL, OFFER_TAKEN, OFFER_WAITS };
/* Of HTTP/1, by connection.pair: those made last, by number. */
#define OFFERS 4
struct offers {
	struct offer offers[OFFERS];
	__u32 last;  /* number of the last one */
	__u8 fresh;  /* the numbers are right: the client was seen from its first byte on */
	__u8 single; /* the last one is the only one that waits for its response */
	__u8 called; /* the client is a target */
	__u8 unused;
};
BPF_TABLE("lru_hash", u64, struct offers, offers, MAX_OFFERS);
BPF_ARRAY(blank_offers, struct offers, 1);
/* Of HTTP/2; deleted when the other end has met it. Of stream 0: the client is a target. */
struct stream_pair {
	__u64 pair;
	__u64 stream;
};
BPF_TABLE("lru_hash", struct stream_pair, struct offer, stream_offers, MAX_OFFERS);

/*
 * Calls that a program has handed to nghttp2, which writes them later: for whom, by session and stream; and by thread and
 * stream, of which session (request.key) the last one is.
 */
struct submitted_key {
	__u64 session; /* session_key(), or the thread's id */
	__u64 stream;
};
struct submitted {
	struct served request; /* several: threads have handed in this stream of several sessions, none of which is written */
	__u32 why;             /* enum orphan, if it is none */
	__u32 written;
};
BPF_TABLE("lru_hash", struct submitted_key, struct submitted, submitted, MAX_OFFERS);
/* By thread: what it is handing in, until it is known as which stream. */
struct submitting {
	__u64 session;
	struct submitted call;
};
BPF_TABLE("lru_hash", u32, struct submitting, submitting, MAX_TLS_WORKS);

/* Work that libuv's thread pool has to do, by session_key() of it: for which request. Deleted when it is done. */
BPF_TABLE("lru_hash", u64, struct served, pool_works, MAX_POOL_WORKS);

/*
 * Calls of grpc-go that have a number and are not written yet, by the connection's key and the stream; inserted by who makes
 * the call, deleted by who writes it, or who makes it if that was late: whoever succeeds gives it its place in a trace.
 */
struct asked_key {
	__u64 key;
	__u64 stream;
};
struct asked {
	struct served origin; /* what it is made for */
	__u64 name;           /* key in `names` of its method; 0: the call itself will tell */
	__u32 pid;
	__u32 unused;
};
BPF_TABLE("lru_hash", struct asked_key, struct asked, asked_streams, 512);

/*
 * What a thread has read last from an HTTP/2 connection older than the agent, by its id; taken by who sees it hand that to
 * the library (probes/nghttp2.h).
 */
#define READ_BEGINNING 16
struct last_read {
	__u64 key; /* of the connection; 0: of several */
	__u64 buffer; /* where it was read to */
	__u8 beginning[READ_BEGINNING]; /* its first bytes; what is missing is zero */
	__u32 number; /* parts of header blocks told before it */
	__u32 open;   /* it begins within one */
};
BPF_TABLE("lru_hash", u32, struct last_read, last_reads, 256);

/* Requests that brought trace context, by process and parent: whoever passes the same one on does it for them. */
struct brought {
	__u64 parent;
	__u64 pid;
};
BPF_TABLE("lru_hash", struct brought, struct served, brought, MAX_OFFERS);

/* All zeros, to insert from: too large for the stack. */
BPF_ARRAY(blank_connection, struct connection, 1);
BPF_ARRAY(blank_overflow, struct overflow, 1);

#define SEVERAL_STREAMS 0xffffffff

/* Streams that one run may begin. */
#define BEGUN 64

/* One system call being looked at. */
struct work {
	__u64 sock;
	__u64 time;
	__u64 position; /* bytes of this call that are done */
	__u64 size;     /* bytes that it moved */
	/* the buffers: a list of (address, length), of which one is at hand */
	__u64 segment_at;    /* position of its first byte */
	__u64 segment_end;   /* position after its last byte */
	__u64 segment_begin; /* its address */
	__u64 vector;        /* address of the next (address, length) */
	__u64 vector_left;   /* entries there */
	__u64 message;       /* address of the next struct mmsghdr */
	__u32 messages_left;
	__u32 pid;
	__u32 tid;
	__u32 fd;
	__u32 side; /* enum side */
	__u32 incoming;
	__u32 opaque; /* no user memory to look at: sendfile, splice */
	__u32 entering; /* a write that has not happened yet */
	__u32 arrived;  /* bytes that the call has read, if it was one message; else 0 */
	__u32 head_began, head_ended; /* TCP's numbers of the first byte of the last head, and of that behind it */
	__u32 steps;    /* runs of the program so far */
	__u32 last;     /* the connection ends, too */
	__u32 cut;      /* no more than one run is left */
	__u32 part;     /* HTTP2_* flags of the part that is to be told; 0: none */
	__u32 part_size; /* bytes of its fragment */
	__u32 part_stream;
	__u32 turn;     /* enum turn, in memory */
	__u32 turns;    /* of the loop that is at work: see LOOP() */
	__u32 settled;  /* HTTP/2: a stream that was answered before its request was told */
	__u32 kept;     /* a stream of which a block is kept, to be told with what follows in this call; 0: none */
	__u32 kept_size; /* 0: there is none */
	__u32 joined;    /* HTTP2_JOINED: the fragment begins with it */
	__u64 kept_block; /* its bytes */
	__u32 answered; /* a stream of whose response something came, of a server of whose request's body; SEVERAL_STREAMS */
	__u32 heading; /* what is looked at is the head of a request */
	__u32 event;   /* enum http1_event */
	__u32 outcome; /* enum outcome */
	__u32 skipped; /* simple chunks have been skipped */
	__u32 several; /* more than one has */
	__u32 begun;   /* requests that have begun, and are to be given their place in a trace */
	__u32 streams[BEGUN]; /* of HTTP/2: which; of HTTP/1 the last one's number */
#ifdef PROPAGATE_HEADERS
	__u64 fields[BEGUN]; /* of HTTP/2: address of the last bytes of the header block; 0: not known */
#endif
	__u32 next;    /* enum STEP_*: what is left to do when they have it; STEPS: nothing */
	struct trace opened; /* of the stream that began last, as it began */
	__u64 goroutine; /* address of the current goroutine's g, if it is one */
	/* what `runtimes` last told of a process, and how often anything had been told there by then */
	__u64 known_runtime;
	__u32 known_pid, known_at;
	struct scan scan;
	__u8 window[WINDOW + WINDOW_SLACK];
};
/*
 * By CPU. Probes do not nest, but from Linux 7 on another task may take the place of one that is in the middle of a probe
 * (lib/probe.h). So each program that looks at system calls has a work of its own, which knows its task.
 */
enum { WORK_EXIT, WORK_ENTER, WORK_KINDS };
#define WORKS (WORK_KINDS * PROBE_COPIES)
BPF_PERCPU_ARRAY(works, struct work, WORKS);
struct work_owners {
	__u32 tid[WORKS];
	__u64 number; /* the last one that a request was given; 0: none was */
};
BPF_PERCPU_ARRAY(work_owners, struct work_owners, 1);

/* Who writes, or reads. */
struct caller {
	__u64 goroutine; /* address of the current goroutine's g, if it is one */
	__u32 pid, tid;
};

static __always_inline struct caller caller_of(const struct work *w)
{
	struct caller by = {w->goroutine, w->pid, w->tid};

	return by;
}

/* Programs that others go on with, with the work at hand: once compiled, and again where one run is not enough. */
enum { STEP_LOOK, STEP_CHUNKS, STEP_LOST, STEP_FRAMES, STEP_AGGREGATE, STEP_FINISH, STEP_PLACE, STEP_PLACE_STREAMS, STEPS };
BPF_PROG_ARRAY(steps, STEPS);
/* the same ones, for probes of functions: the kernel mixes neither program types, nor what programs are attached as */
BPF_PROG_ARRAY(tls_steps, STEPS);
BPF_PROG_ARRAY(go_steps, STEPS);

/* The same, with a message at hand that TCP does not have yet (probes/propagate.h). */
#ifdef PROPAGATE_HEADERS
enum { MESSAGE_FRAMES, MESSAGE_INSERT, MESSAGE_STEPS };
BPF_PROG_ARRAY(message_steps, MESSAGE_STEPS);
#endif

/* Of Go: does it write its first byte by itself? */
enum tls_parts { PARTS_ONE, PARTS_MAYBE, PARTS_TWO };

/* A call of a TLS library that has not returned yet. */
enum tls_kind { TLS_HANDSHAKE, TLS_FLUSH, TLS_READ, TLS_WRITE };
struct tls_call {
	__u64 key; /* session_key() */
	__u64 buffer;
	__u64 moved; /* address of the size_t that tells how much was moved; 0: the return value does */
	__u64 stack_end; /* of the goroutine's stack, if the buffer is on it; else 0 */
	__u64 stack; /* of a goroutine: distance from the stack's end, since stacks are moved */
	__u64 entered; /* time */
	__u64 passed;  /* time at which ciphertext last went in this call's direction; 0: not within it */
	__u64 size;    /* of what a write is to write, if that is to be looked at before it returns; else 0 */
	__u64 sent;    /* bytes of ciphertext that went within a write */
	__u32 kind;  /* enum tls_kind */
	__u32 known; /* the session was met before */
	__u32 looked; /* what it writes was looked at already */
	__u32 parts;  /* enum tls_parts */
};
/*
 * A thread that uses a TLS library, by its id, or a goroutine, by thread_of_goroutine(); least recently used ones go
 * first. A session may lie within another one.
 */
#define TLS_DEPTH 2
struct tls_thread {
	__u64 last; /* the socket it has read TLS from outside of such a call, if no session of it is known */
	__u32 depth;
	__u32 unused;
	struct tls_call calls[TLS_DEPTH];
};
BPF_TABLE("lru_hash", u64, struct tls_thread, tls_threads, MAX_TLS_THREADS);
BPF_ARRAY(blank_tls_thread, struct tls_thread, 1);

/* Ciphertext that was read off a socket whose session is not known, by its content; least recently used ones go first. */
struct ciphertext {
	__u64 sk;         /* SOCKETS_SEVERAL: several have read the same */
	__u64 connection; /* of the sockets that had that address */
};
BPF_TABLE("lru_hash", u64, struct ciphertext, ciphertexts, MAX_CIPHERTEXTS);

/* As `works`, by thread: in the middle of such a program one task may always take the place of another (Linux 6). */
BPF_TABLE("lru_hash", u32, struct work, tls_works, MAX_TLS_WORKS);
BPF_ARRAY(blank_work, struct work, 1);

/*
 * Hits of probes by process, while somebody asks: user space puts in the pids that it wants to know of, and takes them out
 * after a second. Empty at all other times.
 */
struct hits {
	__u64 calls;     /* system calls */
	__u64 functions; /* hits of probes on functions */
};
#define MAX_COUNTED 1024
BPF_HASH(hits, u32, struct hits, MAX_COUNTED);

static __always_inline void count_hit(__u32 pid)
{
	struct hits *found = hits.lookup(&pid);

	if (found)
		__sync_fetch_and_add(&found->functions, 1);
}

static __always_inline void count_several(__u32 what, __u64 times)
{
	zero_key zero = 0;
	struct counters *all = counters.lookup((__u32 *)&zero);

	if (all && what < COUNT_MAX)
		__sync_fetch_and_add(&all->values[what], times);
}

static __always_inline void count(__u32 what)
{
	count_several(what, 1);
}

static __always_inline __u8 *target_of(__u32 pid)
{
	__u32 block = pid / PID_BLOCK;
	struct pid_block *flags = targets.lookup(&block);

	return flags ? &flags->flags[pid % PID_BLOCK] : NULL;
}

/* TARGET_* of a process that is watched, and not the agent; NULL: it is not. */
static __always_inline __u8 *watched(__u32 pid)
{
	__u8 *target = target_of(pid);

	return pid && target && *target && !(*target & TARGET_SELF) ? target : NULL;
}

/* The same of who hits a probe on a function; the hit is counted. */
static __always_inline __u8 *hit_of_watched(__u32 pid)
{
	__u8 *target = watched(pid);

	if (target)
		count_hit(pid);
	return target;
}

#endif
