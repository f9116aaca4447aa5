-- EC2's rules, as a billing script has them: by the second, at least a minute for each start or waking.
local MINIMUM, SECOND = 60000000000, 1000000000
local BILLED = { initializing = true, running = true, paused = true }

local function due(used)
  local charged = math.max(used, MINIMUM)
  return (charged + SECOND - 1) // SECOND * SECOND
end

-- Half to even. Whole seconds, so that nothing outgrows 64 bits.
local function amount(billed, price)
  local exact = billed // SECOND * price.nanos
  local whole, rest = exact // price.seconds, exact % price.seconds
  if 2 * rest > price.seconds or 2 * rest == price.seconds and whole % 2 == 1 then
    whole, rest = whole + 1, rest - price.seconds
  end
  return whole, rest
end

-- The line of one instance: rows in, what was charged and why out.
function line(instance, rows, price)
  local facts, minimums, quantity, billed = {}, {}, 0, 0
  local used, current, asleep = 0, nil, false
  local function settle()
    billed, quantity = billed + due(used), quantity + used
    if used < MINIMUM then
      minimums[#minimums + 1] = current
    end
    used, current = 0, nil
  end
  for _, row in ipairs(rows) do
    local sleeps = row.phase == "standby"
    local woke = asleep and not sleeps
    asleep = sleeps
    if current and (woke or current ~= row.session) then
      settle()
    end
    if BILLED[row.phase] then
      current = current or row.session
      used = used + row.stop - row.start
      facts[#facts + 1] = row.fact
    end
  end
  if current then
    settle()
  end
  local nanos, rest = amount(billed, price)
  local text = string.format("%s: %d s at %s per %d s", price.rule, billed // SECOND, price.text, price.seconds)
  return {
    rule = price.rule, meter = "active", instance = instance, facts = facts, minimums = minimums,
    quantity = quantity, billed = billed, amount = nanos, rest = rest, description = text,
  }
end

-- The billed time alone, from columns: the least that a script can do.
function time(phase, start, stop, session)
  local billed, used, current, asleep = 0, 0, nil, false
  for i = 1, #phase do
    local sleeps = phase[i] == 5
    local woke = asleep and not sleeps
    asleep = sleeps
    if current ~= nil and (woke or current ~= session[i]) then
      billed = billed + due(used)
      used, current = 0, nil
    end
    if phase[i] == 1 or phase[i] == 2 or phase[i] == 3 then
      current = current or session[i]
      used = used + stop[i] - start[i]
    end
  end
  if current ~= nil then
    billed = billed + due(used)
  end
  return billed
end
