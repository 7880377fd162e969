// stream.cpp: streams, events, captures and graphs.
//
// Work runs when it is submitted; with SIMT_STREAMS=late it waits until something synchronises, so that a program that forgets to
// is seen to read old values. Captured work knows what it waits for: the piece before it in its stream, and the events that the
// stream waited for. SIMT_FORKS orders graphs anew by that.
#include "driver.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

namespace driver {

namespace {

// A value of its own for each thread.
const void* this_thread() {
  static thread_local char here;
  return &here;
}

bool is_late() {
  const char* text = getenv("SIMT_STREAMS");
  return text && strcmp(text, "late") == 0;
}

double now_milliseconds() {
  auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(now).count();
}

// Runs work; what goes wrong there is told by every later call, as on a real device.
Result run_work(const Work& work) {
  if (the().broken) return the().broken;
  Result error = work();
  if (error) the().broken = error;
  return error;
}

// Runs a stream's work up to a position.
Result drain_to(Stream* stream, size_t position) {
  while (stream->finished < position && !stream->queue.empty()) {
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->finished++;
    run_work(work);
  }
  return the().broken;
}

void invalidate(Capture* capture) { capture->invalid = true; }

// Ends a capture and sets its streams free.
void dissolve(Capture* capture) {
  for (Stream* stream : capture->streams) stream->capture = nullptr;
  for (void* handle : the().events) {
    Event* event = static_cast<Event*>(handle);
    if (event->capture == capture) event->capture = nullptr;
  }
  auto& all = the().captures;
  all.erase(std::remove_if(all.begin(), all.end(), [=](const auto& one) { return one.get() == capture; }), all.end());
}

// Adds the nodes of one list to another that does not have them yet.
void unite(std::vector<size_t>& all, const std::vector<size_t>& more) {
  for (size_t node : more) {
    if (std::find(all.begin(), all.end(), node) == all.end()) all.push_back(node);
  }
}

// An order of nodes in which forked streams come as soon as what they wait for allows.
std::vector<size_t> early_forks(const std::vector<Node>& nodes) {
  std::vector<size_t> order;
  std::vector<bool> done(nodes.size());
  auto is_ready = [&](const Node& node) { return std::all_of(node.before.begin(), node.before.end(), [&](size_t i) { return done[i]; }); };
  while (order.size() < nodes.size()) {
    size_t next = nodes.size();
    for (size_t i = 0; i < nodes.size(); i++) {
      if (done[i] || !is_ready(nodes[i])) continue;
      if (next == nodes.size() || nodes[i].fork > nodes[next].fork) next = i;
    }
    done[next] = true;
    order.push_back(next);
  }
  return order;
}

// The same, as late as what waits for them allows: early, seen from the end.
std::vector<size_t> late_forks(const std::vector<Node>& nodes) {
  size_t last = nodes.size() - 1;
  std::vector<Node> turned(nodes.size());
  for (size_t i = 0; i < nodes.size(); i++) {
    turned[last - i].fork = nodes[i].fork;
    for (size_t before : nodes[i].before) turned[last - before].before.push_back(last - i);
  }
  std::vector<size_t> order = early_forks(turned);
  std::reverse(order.begin(), order.end());
  for (size_t& node : order) node = last - node;
  return order;
}

// The graph as SIMT_FORKS wants it run.
Graph ordered(const Graph& graph) {
  const char* text = getenv("SIMT_FORKS");
  if (!text) return graph;
  std::vector<size_t> order = strcmp(text, "late") == 0 ? late_forks(graph.nodes) : early_forks(graph.nodes);
  std::vector<size_t> place(order.size());
  for (size_t i = 0; i < order.size(); i++) place[order[i]] = i;
  Graph other;
  for (size_t node : order) {
    other.nodes.push_back(graph.nodes[node]);
    for (size_t& before : other.nodes.back().before) before = place[before];
  }
  return other;
}

bool is_event(void* event) { return the().events.count(event) != 0; }

}  // namespace

Stream* stream_of(void* handle) {
  // 0, CU_STREAM_LEGACY and CU_STREAM_PER_THREAD
  if (reinterpret_cast<uintptr_t>(handle) <= 2) return &the().legacy;
  if (!the().streams.count(handle)) {
    refuse(INVALID_HANDLE, "a stream that does not exist, or no longer");
    return nullptr;
  }
  return static_cast<Stream*>(handle);
}

Result submit(Stream* stream, Work work) {
  if (Capture* capture = stream->capture) {
    if (capture->invalid) return CAPTURE_INVALIDATED;
    size_t fork = std::find(capture->streams.begin(), capture->streams.end(), stream) - capture->streams.begin();
    capture->nodes.push_back({std::move(work), fork, stream->before});
    stream->before = {capture->nodes.size() - 1};
    stream->captured++;
    return SUCCESS;
  }
  if (stream == &the().legacy) {
    // The legacy stream waits for all others; using it while one is captured would tie them together.
    for (const auto& capture : the().captures) {
      if (capture->mode == 2) continue;
      invalidate(capture.get());
      return refuse(CAPTURE_IMPLICIT, "work in the legacy stream while another stream is captured");
    }
    drain_all();
  }
  if (the().broken) return the().broken;
  stream->submitted++;
  stream->queue.push_back(std::move(work));
  if (!is_late() || stream == &the().legacy) drain(stream);
  return SUCCESS;
}

Result drain(Stream* stream) { return drain_to(stream, stream->submitted); }

Result drain_all() {
  drain(&the().legacy);
  for (void* stream : the().streams) drain(static_cast<Stream*>(stream));
  return the().broken;
}

Result refuse_in_capture(const char* what) {
  for (const auto& capture : the().captures) {
    bool concerned = capture->mode == 0 || (capture->mode == 1 && capture->thread == this_thread());
    if (!concerned) continue;
    invalidate(capture.get());
    return refuse(CAPTURE_UNSUPPORTED, "%s while a stream is captured", what);
  }
  return SUCCESS;
}

}  // namespace driver

using namespace driver;

// ---- Streams ------------------------------------------------------------------------------------------------------------------

DRIVER_API cuStreamCreate(void** handle, unsigned) {
  DRIVER_CALL(cuStreamCreate);
  *handle = new Stream;
  the().streams.insert(*handle);
  return SUCCESS;
}

DRIVER_API cuStreamCreateWithPriority(void** handle, unsigned flags, int) { return cuStreamCreate(handle, flags); }

DRIVER_API cuStreamDestroy_v2(void* handle) {
  DRIVER_CALL(cuStreamDestroy_v2);
  if (!the().streams.count(handle)) return refuse(INVALID_HANDLE, "a stream is destroyed that does not exist");
  Stream* stream = static_cast<Stream*>(handle);
  if (stream->capture) invalidate(stream->capture);
  Result late = drain(stream);
  for (void* event : the().events) {
    if (static_cast<Event*>(event)->stream == stream) static_cast<Event*>(event)->stream = nullptr;
  }
  for (const auto& capture : the().captures) {
    auto& list = capture->streams;
    list.erase(std::remove(list.begin(), list.end(), stream), list.end());
  }
  the().streams.erase(handle);
  delete stream;
  return late;
}

DRIVER_API cuStreamSynchronize(void* handle) {
  DRIVER_CALL(cuStreamSynchronize);
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  if (stream->capture) {
    invalidate(stream->capture);
    return refuse(CAPTURE_UNSUPPORTED, "synchronising with a stream that is captured");
  }
  return stream == &the().legacy ? drain_all() : drain(stream);
}

DRIVER_API cuStreamQuery(void* handle) {
  DRIVER_CALL(cuStreamQuery);
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  if (stream->capture) return refuse(CAPTURE_UNSUPPORTED, "asking a stream that is captured");
  return drain(stream);
}

DRIVER_API cuStreamWaitEvent(void* handle, void* which, unsigned) {
  DRIVER_CALL(cuStreamWaitEvent);
  Stream* stream = stream_of(handle);
  if (!stream || !is_event(which)) return INVALID_HANDLE;
  Event* event = static_cast<Event*>(which);
  if (stream->capture && event->capture != stream->capture) {
    invalidate(stream->capture);
    return refuse(CAPTURE_ISOLATION, "a captured stream waits for an event recorded outside the capture");
  }
  if (event->capture) {
    // A fork takes the stream into the capture; a join marks the other stream's work as waited for.
    if (!stream->capture) {
      if (stream == &the().legacy) return refuse(CAPTURE_IMPLICIT, "the legacy stream cannot take part in a capture");
      stream->capture = event->capture;
      stream->captured = 0;
      stream->joined = 0;
      stream->before.clear();
      event->capture->streams.push_back(stream);
    }
    if (event->stream && event->stream != stream) event->stream->joined = std::max(event->stream->joined, event->position);
    unite(stream->before, event->before);
    stream->captured++;
    return SUCCESS;
  }
  Stream* other = event->stream;
  size_t position = event->position;
  if (!other || other == stream) return SUCCESS;
  return submit(stream, [=] {
    // Recorded when the wait was asked for, so this much is known to be there, unless the stream is gone, drained.
    bool exists = other == &the().legacy || the().streams.count(other);
    return exists ? drain_to(other, position) : SUCCESS;
  });
}

// ---- Events -------------------------------------------------------------------------------------------------------------------

DRIVER_API cuEventCreate(void** handle, unsigned) {
  DRIVER_CALL(cuEventCreate);
  *handle = new Event;
  the().events.insert(*handle);
  return SUCCESS;
}

DRIVER_API cuEventDestroy_v2(void* handle) {
  DRIVER_CALL(cuEventDestroy_v2);
  if (!is_event(handle)) return refuse(INVALID_HANDLE, "an event is destroyed that does not exist");
  the().events.erase(handle);
  delete static_cast<Event*>(handle);
  return SUCCESS;
}

DRIVER_API cuEventRecord(void* handle, void* where) {
  DRIVER_CALL(cuEventRecord);
  Stream* stream = stream_of(where);
  if (!stream || !is_event(handle)) return INVALID_HANDLE;
  Event* event = static_cast<Event*>(handle);
  event->stream = stream;
  event->capture = stream->capture;
  event->milliseconds = -1;
  if (stream->capture) {
    event->position = stream->captured;
    event->before = stream->before;
    return SUCCESS;
  }
  Result error = submit(stream, [=] {
    if (is_event(event)) event->milliseconds = now_milliseconds();
    return SUCCESS;
  });
  event->position = stream->submitted;
  return error;
}

static Result finish_event(void* handle, const char* what) {
  if (!is_event(handle)) return INVALID_HANDLE;
  Event* event = static_cast<Event*>(handle);
  if (event->capture) {
    invalidate(event->capture);
    return refuse(CAPTURE_UNSUPPORTED, "%s of an event that is captured", what);
  }
  return event->stream ? drain_to(event->stream, event->position) : the().broken;
}

DRIVER_API cuEventSynchronize(void* handle) {
  DRIVER_CALL(cuEventSynchronize);
  return finish_event(handle, "cuEventSynchronize");
}

DRIVER_API cuEventQuery(void* handle) {
  DRIVER_CALL(cuEventQuery);
  return finish_event(handle, "cuEventQuery");
}

DRIVER_API cuEventElapsedTime(float* milliseconds, void* start, void* end) {
  DRIVER_CALL(cuEventElapsedTime);
  if (!is_event(start) || !is_event(end)) return INVALID_HANDLE;
  double from = static_cast<Event*>(start)->milliseconds;
  double to = static_cast<Event*>(end)->milliseconds;
  if (!static_cast<Event*>(start)->stream || !static_cast<Event*>(end)->stream) {
    return refuse(INVALID_HANDLE, "the time between events of which one was never recorded");
  }
  if (from < 0 || to < 0) return NOT_READY;
  *milliseconds = (float)(to - from);
  return SUCCESS;
}

DRIVER_API cuEventElapsedTime_v2(float* milliseconds, void* start, void* end) { return cuEventElapsedTime(milliseconds, start, end); }

// ---- Captures -----------------------------------------------------------------------------------------------------------------

DRIVER_API cuStreamBeginCapture_v2(void* handle, int mode) {
  DRIVER_CALL(cuStreamBeginCapture_v2);
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  if (stream == &the().legacy) return refuse(CAPTURE_UNSUPPORTED, "the legacy stream cannot be captured");
  if (stream->capture) return refuse(INVALID_VALUE, "a stream is captured already");
  the().captures.push_back(std::make_unique<Capture>());
  Capture* capture = the().captures.back().get();
  capture->origin = stream;
  capture->streams = {stream};
  capture->mode = mode;
  capture->thread = this_thread();
  stream->capture = capture;
  stream->captured = 0;
  stream->before.clear();
  return SUCCESS;
}

DRIVER_API cuStreamIsCapturing(void* handle, int* status) {
  DRIVER_CALL(cuStreamIsCapturing);
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  *status = !stream->capture ? 0 : stream->capture->invalid ? 2 : 1;
  return SUCCESS;
}

DRIVER_API cuStreamEndCapture(void* handle, void** result) {
  DRIVER_CALL(cuStreamEndCapture);
  Stream* stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  *result = nullptr;
  Capture* capture = stream->capture;
  if (!capture) return refuse(INVALID_VALUE, "the end of a capture that was not begun");
  if (capture->origin != stream) return refuse(CAPTURE_UNMATCHED, "a capture ends in the stream where it began");
  if (capture->mode != 2 && capture->thread != this_thread()) return refuse(CAPTURE_WRONG_THREAD, "a capture ends in the thread that began it");
  Result error = capture->invalid ? CAPTURE_INVALIDATED : SUCCESS;
  for (Stream* one : capture->streams) {
    if (one == stream || one->joined >= one->captured) continue;
    error = refuse(CAPTURE_UNJOINED, "a capture ends while a forked stream has work that nobody waits for");
  }
  if (!error) {
    Graph* graph = new Graph{std::move(capture->nodes)};
    the().graphs.insert(graph);
    *result = graph;
  }
  dissolve(capture);
  return error;
}

// ---- Graphs -------------------------------------------------------------------------------------------------------------------

static bool is_graph(void* graph) { return the().graphs.count(graph) != 0; }

static Result destroy_graph(void* handle) {
  if (!is_graph(handle)) return refuse(INVALID_HANDLE, "a graph is destroyed that does not exist");
  the().graphs.erase(handle);
  delete static_cast<Graph*>(handle);
  return SUCCESS;
}

DRIVER_API cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
  DRIVER_CALL(cuGraphInstantiateWithFlags);
  if (!is_graph(graph)) return INVALID_HANDLE;
  *executable = new Graph(ordered(*static_cast<Graph*>(graph)));
  the().graphs.insert(*executable);
  return SUCCESS;
}

DRIVER_API cuGraphUpload(void* executable, void* stream) {
  DRIVER_CALL(cuGraphUpload);
  return is_graph(executable) && stream_of(stream) ? SUCCESS : INVALID_HANDLE;
}

DRIVER_API cuGraphLaunch(void* executable, void* handle) {
  DRIVER_CALL(cuGraphLaunch);
  Stream* stream = stream_of(handle);
  if (!is_graph(executable) || !stream) return INVALID_HANDLE;
  if (stream->capture) return refuse(CAPTURE_UNSUPPORTED, "launches of graphs are not captured here");
  for (const Node& node : static_cast<Graph*>(executable)->nodes) {
    if (Result error = submit(stream, node.work)) return error;
  }
  return SUCCESS;
}

DRIVER_API cuGraphGetNodes(void* graph, void**, size_t* count) {
  DRIVER_CALL(cuGraphGetNodes);
  if (!is_graph(graph)) return INVALID_HANDLE;
  *count = static_cast<Graph*>(graph)->nodes.size();
  return SUCCESS;
}

DRIVER_API cuGraphDestroy(void* graph) {
  DRIVER_CALL(cuGraphDestroy);
  return destroy_graph(graph);
}

DRIVER_API cuGraphExecDestroy(void* executable) {
  DRIVER_CALL(cuGraphExecDestroy);
  return destroy_graph(executable);
}
