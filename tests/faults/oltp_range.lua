-- sysbench's own oltp_write_only on a range of keys, so that two sites can write the same tables
-- at once without touching the same rows.
require("oltp_write_only")

sysbench.cmdline.options.id_offset = {"Added to every key and value drawn", 0}

local draw = sysbench.rand.default
sysbench.rand.default = function(low, high)
   return draw(low, high) + sysbench.opt.id_offset
end

sysbench.cmdline.options.compress = {"Log transactions compressed", false}

local connect = thread_init
function thread_init()
   connect()
   if sysbench.opt.compress then
      con:query("SET SESSION binlog_transaction_compression = ON")
   end
end
