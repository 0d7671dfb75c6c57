-- A rate limit that TCP can live with. Snabb's own app (apps.rate_limiter.rate_limiter) drops at once what exceeds the
-- rate: a TCP sender, who sends in bursts, loses many segments of each and stays at a quarter to a half of the limit.
-- Here frames wait for their turn, as they would before a slower wire, and only what would wait too long is dropped.

local app = require("core.app")
local counter = require("core.counter")
local link = require("core.link")
local packet = require("core.packet")

local Limiter = {
    config = {
        rate = { required = true }, -- in bytes per second
    },
}

-- How long a full-sized frame may wait, in seconds, and the number of frames that wait at any rate. No more than leaves
-- room in the link.
local DELAY, FEWEST, MOST = 0.1, 128, 800

function Limiter:new (conf)
    -- Enough for what arrives while the engine sleeps, and for the largest frame.
    local bucket = math.max(conf.rate / 200, 2 * packet.max_payload)
    local o = {
        rate = conf.rate,
        bucket = bucket,
        content = bucket,
        waiting = math.min(math.max(conf.rate * DELAY / 1514, FEWEST), MOST),
        shm = { txdrop = { counter } },
    }
    return setmetatable(o, { __index = Limiter })
end

function Limiter:push ()
    local input, output = self.input.input, self.output.output
    local now = app.now()
    self.content = math.min(self.content + self.rate * (now - (self.last or now)), self.bucket)
    self.last = now
    while not link.empty(input) and link.front(input).length <= self.content do
        local p = link.receive(input)
        self.content = self.content - p.length
        link.transmit(output, p)
    end
    -- The oldest go: their sender learns of it soonest.
    while link.nreadable(input) > self.waiting do
        packet.free(link.receive(input))
        counter.add(self.shm.txdrop)
    end
end

return { Limiter = Limiter }
