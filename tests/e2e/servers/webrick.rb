# Ruby's WEBrick.
require "webrick"

class Answer < WEBrick::HTTPServlet::AbstractServlet
  def service(request, response)
    begun = now
    wish = Hash.new(0).merge("s" => 200).merge(request.path.split("/").drop(1).each_slice(2).to_h { |k, v| [k, v.to_i] })
    request.body
    sleep(wish["d"] / 1000.0)
    response.status = wish["s"]
    response["Clock"] = "#{begun} #{now}"
    return if [204, 304].include?(wish["s"])
    response.chunked = wish["c"] == 1
    response.body = "x" * wish["b"]
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
  end
end

server = WEBrick::HTTPServer.new(
  BindAddress: "127.0.0.1", Port: ARGV[0].to_i, AccessLog: [], Logger: WEBrick::Log.new(nil, 0), DoNotReverseLookup: true
)
server.mount("/", Answer)
trap("TERM") { server.shutdown }
server.start
