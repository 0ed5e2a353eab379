module odd

go 1.17

require autoinstr.test/odd_common v0.0.0

replace autoinstr.test/odd_common => ../odd_common
