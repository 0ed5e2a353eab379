# Rack, for Puma.
class Answer
  def call(env)
    begun = now
    wish = Hash.new(0).merge("s" => 200).merge(env["PATH_INFO"].split("/").drop(1).each_slice(2).to_h { |k, v| [k, v.to_i] })
    env["rack.input"].read
    sleep(wish["d"] / 1000.0)
    fields = {"Clock" => "#{begun} #{now}"}
    return [wish["s"], fields, []] if [204, 304].include?(wish["s"])
    body = "x" * wish["b"]
    fields["Content-Length"] = body.size.to_s if wish["c"] == 0
    return [wish["s"], fields, []] if env["REQUEST_METHOD"] == "HEAD"
    [wish["s"], fields, wish["c"] == 1 ? pieces(body) : [body]]
  end

  def pieces(body)
    (0...body.size).step(100).lazy.map { |at| body[at, 100] }
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
  end
end

run Answer.new
