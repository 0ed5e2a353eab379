/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which goroutine does what in Go's HTTP and gRPC: handlers run in goroutines of their own, and what a goroutine asks a
 * server is mostly written by another one. Where these programs are attached, and where the fields lie, is known to
 * autoinstr/libraries/goroutines.py.
 */
#ifndef AUTOINSTR_PROBES_GOROUTINES_H
#define AUTOINSTR_PROBES_GOROUTINES_H

/* Of a net.Conn: key in `connections`, if it is a session of crypto/tls, or a socket. */
static __always_inline __u64 key_of_conn(__u32 pid, __u64 conn)
{
	__u64 key = session_key(pid, conn);

	if (connections.lookup(&key))
		return key;
	/* a *net.TCPConn or *net.UnixConn begins with its *netFD, and that with a mutex of 16 bytes and the descriptor */
	key = sock_of(current_file(user_u64(user_u64(conn) + 16)));
	return key && connections.lookup(&key) ? key : 0;
}

/* The same, of the net.Conn at this address: an interface. What wraps another one holds that first. */
static __always_inline __u64 key_of_interface(__u32 pid, __u64 at)
{
	__u64 conn = user_u64(at + 8), key = key_of_conn(pid, conn);

	return key ? key : key_of_conn(pid, user_u64(conn + 8));
}

/* The current goroutine serves this stream of the connection. Returns whether the connection is older than the agent. */
static __always_inline int serve_stream(struct pt_regs *ctx, __u32 pid, struct go_layout *l, __u64 conn, __u32 number)
{
	__u64 key = key_of_interface(pid, conn);
	struct http2 *h = key ? http2_connections.lookup(&key) : NULL;

	if (!h || !number)
		return 0;

	struct stream_key of_stream = {.id = h->id, .stream = number};
	struct stream *st = streams.lookup(&of_stream);
	if (!st)
		return 0;

	__u64 execution = goroutine_key(pid, GOROUTINE(ctx), l);
	struct context new = {
		.now = {.key = h->id, .span = st->trace.span, .stream = number},
		.first = st->trace.span,
		.pid = pid,
	};

	note_ids(&new, GOROUTINE(ctx), l);
	contexts.update(&execution, &new);
	return h->old;
}

static __always_inline struct go_layout *layout_of_target(__u32 pid)
{
	return hit_of_watched(pid) ? go_layouts.lookup(&pid) : NULL;
}

/* f(connection, writer, ...): where the connection has its socket, the writer its state, that its stream, that its id */
static __always_inline void run_handler(struct pt_regs *ctx, __u32 pid, struct go_layout *l, __u64 server, __u64 state,
					__u64 stream, __u64 id)
{
	__u64 of_writer = user_u64(GO_ARGUMENT_2(ctx) + state);

	serve_stream(ctx, pid, l, GO_ARGUMENT_1(ctx) + server, user_u64(user_u64(of_writer + stream) + id));
}

/* net/http: func (sc *http2serverConn) runHandler(rw *http2responseWriter, req *Request, handler func(...)) */
int go_run_handler(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_layout *l = layout_of_target(pid);

	if (l && l->server && !GO_BEGINS_AGAIN(ctx))
		run_handler(ctx, pid, l, l->server, l->state, l->stream, l->id);
	return 0;
}

/* golang.org/x/net/http2: the same */
int go_run_handler_x(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_layout *l = layout_of_target(pid);

	if (l && l->x_server && !GO_BEGINS_AGAIN(ctx))
		run_handler(ctx, pid, l, l->x_server, l->x_state, l->x_stream, l->x_id);
	return 0;
}

/* grpc-go: func (s *Server) handleStream(t transport.ServerTransport, stream *transport.ServerStream, ...) */
int go_handle_stream(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_layout *l = layout_of_target(pid);
	__u64 stream = GO_ARGUMENT_4(ctx);
	struct text method = {};

	if (!l || !l->rpc_server || GO_BEGINS_AGAIN(ctx))
		return 0;
	if (l->rpc_by_pointer)
		stream = user_u64(stream);
	if (serve_stream(ctx, pid, l, GO_ARGUMENT_3(ctx) + l->rpc_server, user_u64(stream + l->rpc_id)) &&
	    !bpf_probe_read_user(&method, sizeof(method), (void *)(stream + l->rpc_method)))
		call_it(ctx, NAME_RPC, method.at, method.size);
	return 0;
}

/*
 * net/http: func (pc *persistConn) roundTrip(req *transportRequest) (*Response, error): what the connection's own goroutine
 * writes next it writes for this one.
 */
int go_round_trip(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_layout *l = layout_of_target(pid);

	if (!l || !l->client || GO_BEGINS_AGAIN(ctx))
		return 0;

	struct context *context = serving_goroutine(ctx, pid);
	struct served now = {};

	if (context && is_mixed(context, RUNTIME_GO))
		return 0;
	if (context)
		now = context->now;

	__u64 key = key_of_interface(pid, GO_ARGUMENT_1(ctx) + l->client);
	struct connection *c = key ? connections.lookup(&key) : NULL;
	if (c) {
		c->origin = now;
		c->asked = 1;
	}
	return 0;
}

/*
 * net/http: func (cc *http2ClientConn) roundTrip(...): a goroutine of its own, begun by this one, will write the request, and
 * has to find here what this one has from whom has begun it.
 */
int go_look_up(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_layout *l = layout_of_target(pid);

	if (!l || GO_BEGINS_AGAIN(ctx))
		return 0;

	__u64 execution = goroutine_key(pid, GOROUTINE(ctx), l);
	struct context *context = contexts.lookup(&execution);
	struct context new = {.pid = pid, .asks = 1};

	if (!context)
		context = inherit(pid, GOROUTINE(ctx), execution, 0);
	if (context && context->pid == pid)
		context->asks = 1;
	else
		contexts.update(&execution, &new);
	return 0;
}

/*
 * grpc-go: func (t *http2Client) NewStream(...) (*ClientStream, error) has made a stream, which has its number, and another
 * goroutine will write it. What it is made for is known here, and its method.
 */
static __always_inline int stream_made(struct pt_regs *ctx, __u32 pid, struct go_layout *l, __u64 own)
{
	if (!own)
		return 0;

	__u64 stream = l->rpc_by_pointer ? user_u64(own) : own, conn = user_u64(own + l->rpc_of) + l->rpc_client;
	struct asked_key key = {.key = key_of_interface(pid, conn), .stream = (__u32)user_u64(stream + l->rpc_id)};
	struct asked new = {.pid = pid};

	if (!key.key) /* nothing was seen of it yet: then it is older than the agent */
		key.key = sock_of(current_file(user_u64(user_u64(user_u64(conn + 8)) + 16)));

	struct context *context = serving_goroutine(ctx, pid);
	if (context && !is_mixed(context, RUNTIME_GO))
		new.origin = context->now;

	struct http2 *h = http2_connections.lookup(&key.key);
	struct text method = {};

	if ((!h || h->old) && !bpf_probe_read_user(&method, sizeof(method), (void *)(stream + l->rpc_method)) && method.size)
		new.name = name_text(pid, NAME_RPC, &method);

	struct connection *c = connections.lookup(&key.key);
	if (c)
		c->asked = 1;
	asked_streams.update(&key, &new);
	if (!c || !h)
		return 0;
	__sync_fetch_and_add(&h->meetings, 1);

	struct stream_key of_stream = {.id = h->id, .stream = key.stream};
	struct stream *st = streams.lookup(&of_stream);
	if (st && st->waits && !asked_streams.delete(&key)) {
		struct served this = {.key = h->id, .span = st->trace.span, .stream = key.stream};

		place_asked(c, st, &this, &new, pid);
	}
	return 0;
}

/* It returns. */
int go_new_stream(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_layout *l = layout_of_target(pid);

	return l && l->rpc_client ? stream_made(ctx, pid, l, GO_ARGUMENT_1(ctx)) : 0;
}

/* It is sure to return the stream. */
int go_new_stream_made(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_layout *l = layout_of_target(pid);

	return l && l->rpc_client && l->rpc_made ? stream_made(ctx, pid, l, user_u64(ctx->sp + l->rpc_made)) : 0;
}

#endif
